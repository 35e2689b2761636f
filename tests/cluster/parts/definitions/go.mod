module reconciler.example/definitions

go 1.26.8

require (
	github.com/cert-manager/cert-manager v1.21.2
	github.com/kubernetes-csi/external-snapshotter/client/v8 v8.6.0
	sigs.k8s.io/gateway-api v1.6.3
)
