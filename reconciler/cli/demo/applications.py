"""The three applications of the demo, as the manifests that their developers would apply.

On the sandbox containers run as local processes; ports are free ones of this machine, bound to 127.0.0.1. On a real
cluster they are containers of small images (`setting.py` says which). The shop keeps its orders in PostgreSQL
when there is a server, otherwise in SQLite.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from typing import Any

from reconciler.cli.demo.setting import Runtime
from reconciler.objects import Manifest

SHOP, WIKI, LEGACY = "shop", "wiki", "legacy"

_POSTGRES = """\
set -e
[ -s "$PGDATA/PG_VERSION" ] || {
  printf %s "$POSTGRES_PASSWORD" > "$PGDATA.pw"
  initdb -D "$PGDATA" -U "$PGUSER" -A scram-sha-256 --pwfile "$PGDATA.pw" -E UTF8 --locale=C -N >/dev/null
  rm "$PGDATA.pw"
}
chmod 0700 "$PGDATA"
exec postgres -D "$PGDATA" -p "$PGPORT" -c listen_addresses=127.0.0.1 -c unix_socket_directories= \
  -c fsync=off -c shared_buffers=16MB -c max_connections=20 -c log_min_messages=fatal
"""

_SQLITE = """\
import os, sqlite3, time
db = sqlite3.connect(os.environ["SQLITE_PATH"], isolation_level=None)
db.execute("pragma journal_mode=wal")
db.execute("create table if not exists orders (id integer primary key, item text, amount integer)")
while True:
    time.sleep(60)
"""


def namespace(name: str, *, tier: str) -> Manifest:
    """A namespace with the label that the gold policy selects by."""
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"backup": tier, "team": f"team-{name}"}},
    }


def shop(*, postgres: bool, database_port: int, web_port: int, runtime: Runtime) -> list[Manifest]:
    """A web shop: a page from a ConfigMap, orders in a database that a StatefulSet runs."""
    secret = _object(
        "v1",
        "Secret",
        SHOP,
        "orders-db",
        stringData={"password": "demo-only-change-me"},
        type="Opaque",
    )
    page = _object(
        "v1",
        "ConfigMap",
        SHOP,
        "page",
        data={"index.html": "<h1>The shop is open</h1>\n", "currency": "EUR"},
    )
    return [
        secret,
        page,
        _object("v1", "ServiceAccount", SHOP, "web"),
        _object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            SHOP,
            "web",
            rules=[{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}],
        ),
        _object(
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            SHOP,
            "web",
            roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "web"},
            subjects=[{"kind": "ServiceAccount", "name": "web", "namespace": SHOP}],
        ),
        _service(SHOP, "orders-db", database_port, headless=True),
        _database(postgres=postgres, port=database_port, runtime=runtime),
        _service(SHOP, "web", web_port),
        _web(SHOP, "web", web_port, runtime, volume={"configMap": {"name": "page"}}, account="web"),
    ]


def _database(*, postgres: bool, port: int, runtime: Runtime) -> Manifest:
    mount = "/var/lib/orders"
    if postgres:
        command = ["sh", "-c", _POSTGRES]
        env = [
            {"name": "PGDATA", "value": f"{mount}/pgdata"},
            {"name": "PGUSER", "value": "shop"},
            {"name": "PGDATABASE", "value": "postgres"},
            {"name": "PGHOST", "value": "127.0.0.1"},
            {"name": "PGPORT", "value": str(port)},
            {"name": "POSTGRES_PASSWORD", "valueFrom": _secret_key("orders-db", "password")},
            {"name": "PGPASSWORD", "valueFrom": _secret_key("orders-db", "password")},
        ]
        probe = ["sh", "-c", 'psql -qtAc "select 1" >/dev/null']
        image = runtime.database_image
    else:
        command = ["python3", "-c", _SQLITE]
        env = [{"name": "SQLITE_PATH", "value": f"{mount}/orders.db"}]
        probe = ["sh", "-c", f"test -s {mount}/orders.db"]
        image = "python:3.12-slim"
    container: dict[str, Any] = {
        "name": "database",
        "image": image,
        "command": command,
        "env": env,
        "volumeMounts": [{"name": "data", "mountPath": mount}],
        "readinessProbe": {"exec": {"command": probe}, "periodSeconds": 1},
    }
    spec: dict[str, Any] = {"containers": [container], "terminationGracePeriodSeconds": 5}
    user = runtime.database_user
    if user is not None:
        spec["securityContext"] = {"runAsUser": user, "runAsGroup": user, "fsGroup": user}
    return _object(
        "apps/v1",
        "StatefulSet",
        SHOP,
        "orders-db",
        spec={
            "serviceName": "orders-db",
            "replicas": 1,
            "selector": {"matchLabels": {"app": "orders-db"}},
            "template": {"metadata": {"labels": {"app": "orders-db"}}, "spec": spec},
            "volumeClaimTemplates": [
                {
                    "metadata": {"name": "data"},
                    "spec": {
                        "accessModes": ["ReadWriteOnce"],
                        "resources": {"requests": {"storage": "1Gi"}},
                    },
                }
            ],
        },
    )


def wiki(*, web_port: int, runtime: Runtime) -> list[Manifest]:
    """A wiki: pages as files in a volume."""
    return [
        _object(
            "v1",
            "PersistentVolumeClaim",
            WIKI,
            "pages",
            spec={"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
        ),
        _object(
            "v1", "ConfigMap", WIKI, "settings", data={"title": "Outpost wiki", "theme": "light"}
        ),
        _service(WIKI, "wiki", web_port),
        _web(
            WIKI,
            "wiki",
            web_port,
            runtime,
            volume={"persistentVolumeClaim": {"claimName": "pages"}},
        ),
    ]


def legacy(*, certificate: tuple[bytes, bytes], web_port: int, runtime: Runtime) -> list[Manifest]:
    """An application of an older age: API versions that newer clusters do not serve, an expired certificate."""
    certificate_pem, key_pem = certificate
    backend = {"serviceName": "portal", "servicePort": 80}
    report = {"name": "report", "image": runtime.web_image, "command": ["true"]}
    pod = {"restartPolicy": "OnFailure", "containers": [report]}
    cron = {"schedule": "0 3 * * *", "jobTemplate": {"spec": {"template": {"spec": pod}}}}
    return [
        _object("v1", "ConfigMap", LEGACY, "portal", data={"motd": "since 2019"}),
        _object(
            "v1",
            "Secret",
            LEGACY,
            "portal-tls",
            type="kubernetes.io/tls",
            data={
                "tls.crt": base64.b64encode(certificate_pem).decode(),
                "tls.key": base64.b64encode(key_pem).decode(),
            },
        ),
        _service(LEGACY, "portal", 80),
        _web(LEGACY, "portal", web_port, runtime, volume={"emptyDir": {}}),
        _object(
            "networking.k8s.io/v1beta1",
            "Ingress",
            LEGACY,
            "portal",
            spec={
                "backend": backend,
                "tls": [{"hosts": ["portal.outpost.example"], "secretName": "portal-tls"}],
                "rules": [
                    {
                        "host": "portal.outpost.example",
                        "http": {"paths": [{"path": "/", "backend": backend}]},
                    }
                ],
            },
        ),
        _object("batch/v1beta1", "CronJob", LEGACY, "report", spec=cron),
        _object(
            "policy/v1beta1",
            "PodDisruptionBudget",
            LEGACY,
            "portal",
            spec={"minAvailable": 1, "selector": {"matchLabels": {"app": "portal"}}},
        ),
        _object(
            "autoscaling/v1",
            "HorizontalPodAutoscaler",
            LEGACY,
            "portal",
            spec={
                "minReplicas": 1,
                "maxReplicas": 3,
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "portal"},
                "targetCPUUtilizationPercentage": 80,
            },
        ),
    ]


def expired_certificate(*, now: datetime) -> tuple[bytes, bytes]:
    """A certificate that ended thirty days ago, and its key, both PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "portal.outpost.example")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=395))
        .not_valid_after(now - timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("portal.outpost.example")]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM), pem


def _object(api_version: str, kind: str, space: str, name: str, **rest: Any) -> Manifest:
    return {
        "apiVersion": api_version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": space,
            "labels": {"app.kubernetes.io/part-of": space},
        },
        **rest,
    }


def _secret_key(name: str, key: str) -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": key}}


def _service(space: str, name: str, port: int, *, headless: bool = False) -> Manifest:
    spec: dict[str, Any] = {"selector": {"app": name}, "ports": [{"port": port, "protocol": "TCP"}]}
    if headless:
        spec["clusterIP"] = "None"
    return _object("v1", "Service", space, name, spec=spec)


def _web(
    space: str,
    name: str,
    port: int,
    runtime: Runtime,
    *,
    volume: dict[str, Any],
    account: str | None = None,
) -> Manifest:
    pod: dict[str, Any] = {
        "containers": [
            {
                "name": "web",
                "image": runtime.web_image,
                "command": runtime.serve("/srv/www", port),
                "volumeMounts": [{"name": "www", "mountPath": "/srv/www"}],
            }
        ],
        "volumes": [{"name": "www", **volume}],
        "terminationGracePeriodSeconds": 2,
    }
    if account:
        pod["serviceAccountName"] = account
    return _object(
        "apps/v1",
        "Deployment",
        space,
        name,
        spec={
            "replicas": 1,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
        },
    )
