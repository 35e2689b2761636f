"""Which live objects a plan tells as extra, and which come by themselves."""

import pytest

from reconciler.objects import ObjectKey
from reconciler.restore.plan.extras import extras_of
from tests.support.seen import manifest


def extras(*manifests, known=()):
    """`Kind/name` of the extra objects among these."""
    objects = {ObjectKey.of(m): m for m in manifests}
    return [f"{k.kind}/{k.name}" for k in extras_of(objects, namespace="shop", known=known)]


def test_what_people_made_is_told():
    """Objects of any kind, hand-made tokens, slices and Endpoints among them."""
    token = manifest(
        "Secret",
        "ci-token",
        type="kubernetes.io/service-account-token",
    )
    token["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "ci"}
    made = [
        manifest("ConfigMap", "later"),
        manifest("Deployment", "web", api="apps/v1"),
        manifest("PersistentVolumeClaim", "data-db-3"),
        manifest("EndpointSlice", "hand", api="discovery.k8s.io/v1"),
        manifest("Endpoints", "outside"),
        manifest("ServiceAccount", "ci"),
        manifest("Job", "once", api="batch/v1"),
        token,
    ]

    assert sorted(extras(*made)) == sorted(f"{m['kind']}/{m['metadata']['name']}" for m in made)
    assert extras(*made, known={ObjectKey.of(m) for m in made}) == []
    assert extras(manifest("ConfigMap", "x", namespace="other")) == []


OWNED = ("apps/v1", "ReplicaSet", "web-1")
TOKEN = manifest("Secret", "ci-token-abcde", type="kubernetes.io/service-account-token")
TOKEN["metadata"]["annotations"] = {"kubernetes.io/service-account.name": "ci"}
EXCLUDED = manifest("ConfigMap", "out")
EXCLUDED["metadata"]["annotations"] = {"backup.reconciler.dev/exclude": "true"}
LEADER = manifest("Endpoints", "elector")
LEADER["metadata"]["annotations"] = {"control-plane.alpha.kubernetes.io/leader": "{}"}


@pytest.mark.parametrize(
    "made",
    [
        manifest("Pod", "web-1-x", owner=OWNED),
        manifest("Secret", "db-app", owner=("example.org/v1", "Database", "db")),
        manifest("ServiceAccount", "default"),
        manifest("ConfigMap", "kube-root-ca.crt"),
        manifest("Event", "e"),
        manifest("Event", "e", api="events.k8s.io/v1"),
        manifest("Lease", "l", api="coordination.k8s.io/v1", spec={"holderIdentity": "a"}),
        manifest("ControllerRevision", "c", api="apps/v1"),
        manifest("PodMetrics", "p", api="metrics.k8s.io/v1beta1"),
        manifest("VolumeSnapshot", "s", api="snapshot.storage.k8s.io/v1"),
        manifest("ConfigMap", "ours", labels={"backup.reconciler.dev/managed-by": "x"}),
        manifest(
            "EndpointSlice",
            "web-abc",
            api="discovery.k8s.io/v1",
            labels={"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
        ),
        manifest(
            "Job",
            "done",
            api="batch/v1",
            status={"conditions": [{"type": "Complete", "status": "True"}]},
        ),
        TOKEN,
        EXCLUDED,
        LEADER,
    ],
    ids=lambda m: f"{m['kind']}/{m['metadata']['name']}",
)
def test_what_comes_by_itself_is_not(made):
    """Children, what servers give, what ended or was excluded: nobody has to look at it."""
    assert extras(made) == []


def test_endpoints_of_a_service_with_a_selector_are_its():
    """They are made from the selector; those of a Service without one were made by hand."""
    slices = [
        manifest("Endpoints", "web"),
        manifest(
            "EndpointSlice",
            "web-1",
            api="discovery.k8s.io/v1",
            labels={"kubernetes.io/service-name": "web"},
        ),
    ]
    service = manifest("Service", "web", spec={"selector": {"app": "web"}})
    bare = manifest("Service", "web", spec={})

    assert extras(service, *slices) == ["Service/web"]
    assert extras(bare, *slices) == ["Endpoints/web", "Service/web", "EndpointSlice/web-1"]
