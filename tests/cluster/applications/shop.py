"""A StatefulSet with PostgreSQL, a web Deployment in front, and an account with a role."""

from __future__ import annotations

import json
import os

from tests.cluster.applications.kinds import Application
from tests.cluster.outpost import Outpost, until
from tests.support.clusters import IMAGE

POSTGRESQL = os.environ.get("RECONCILER_TEST_POSTGRESQL", "postgresql:15")
START = """\
set -e
[ -s "$PGDATA/PG_VERSION" ] || {
  printf %s "$PGPASSWORD" > /tmp/pw
  initdb -D "$PGDATA" -U "$PGUSER" -A scram-sha-256 --pwfile /tmp/pw -E UTF8 --locale=C >/dev/null
}
chmod 0700 "$PGDATA"
exec postgres -D "$PGDATA" -c listen_addresses=127.0.0.1 -c unix_socket_directories=/tmp
"""
MANIFESTS = f"""\
apiVersion: v1
kind: Secret
metadata: {{name: orders}}
stringData: {{password: hunter2-marker}}
---
apiVersion: v1
kind: Service
metadata: {{name: orders}}
spec:
  clusterIP: None
  selector: {{app: orders}}
  ports: [{{name: sql, port: 5432}}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {{name: orders}}
spec:
  serviceName: orders
  replicas: 1
  selector: {{matchLabels: {{app: orders}}}}
  template:
    metadata: {{labels: {{app: orders}}}}
    spec:
      terminationGracePeriodSeconds: 5
      securityContext: {{runAsUser: 999, runAsGroup: 999, fsGroup: 999}}
      containers:
        - name: database
          image: {POSTGRESQL}
          command: [bash, -c, {json.dumps(START)}]
          env:
            - {{name: PGDATA, value: /var/lib/orders/pgdata}}
            - {{name: PGUSER, value: shop}}
            - {{name: PGHOST, value: 127.0.0.1}}
            - {{name: PGDATABASE, value: postgres}}
            - name: PGPASSWORD
              valueFrom: {{secretKeyRef: {{name: orders, key: password}}}}
          readinessProbe:
            exec: {{command: [psql, -qtAc, select 1]}}
            periodSeconds: 1
          volumeMounts: [{{name: data, mountPath: /var/lib/orders}}]
  volumeClaimTemplates:
    - metadata: {{name: data}}
      spec:
        accessModes: [ReadWriteOnce]
        resources: {{requests: {{storage: 1Gi}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: page}}
data: {{index.html: the shop is open, currency: EUR}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: web}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: web}}
rules: [{{apiGroups: [""], resources: [configmaps], verbs: [get]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: web}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: web}}
subjects: [{{kind: ServiceAccount, name: web}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      serviceAccountName: web
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: {IMAGE}
          command: [httpd, -f, -p, "8080", -h, /www]
          volumeMounts: [{{name: page, mountPath: /www}}]
      volumes: [{{name: page, configMap: {{name: page}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web}}
spec:
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: 8080}}]
"""


def sql(outpost: Outpost, namespace: str, statement: str) -> str:
    """Run SQL in the database."""
    argv = ("exec", "-n", namespace, "orders-0", "--", "psql", "-qtAX", "-v", "ON_ERROR_STOP=1")
    return outpost.kubectl(*argv, "-c", statement).strip()


def deploy(outpost: Outpost, namespace: str) -> None:
    """Apply the manifests and fill the database."""
    outpost.kubectl.apply(MANIFESTS, "-n", namespace)
    outpost.ready(namespace)
    create = "create table orders (id bigint primary key, item text)"
    sql(outpost, namespace, f"{create}; insert into orders select n, md5(n::text) from {series}")


series = "generate_series(1, 20000) n"


def change(outpost: Outpost, namespace: str) -> None:
    """New orders and another currency."""
    sql(outpost, namespace, "insert into orders values (20001, 'a'), (20002, 'b')")
    outpost.kubectl(
        "patch", "configmap", "page", "-n", namespace, "-p", '{"data":{"currency":"CHF"}}'
    )


def state(outpost: Outpost, namespace: str) -> str:
    """The number of orders, and a checksum over them."""
    return sql(
        outpost,
        namespace,
        "select count(*), md5(string_agg(id||item, ',' order by id)) from orders",
    )


def works(outpost: Outpost, namespace: str) -> None:
    """The page answers through the Service, seen from a pod."""
    request = "printf 'GET /index.html HTTP/1.0\\r\\n\\r\\n' | nc -w 3 web 80"
    argv = ("exec", "-n", namespace, "deploy/web", "--", "sh", "-c", request)
    until(lambda: "the shop is open" in outpost.kubectl(*argv))


SHOP = Application("shop", deploy=deploy, change=change, state=state, works=works)
