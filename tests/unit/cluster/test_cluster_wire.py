"""The adapter against a server that says exactly these bytes: watches, credentials, TLS, odd answers."""

from __future__ import annotations

import ipaddress
import json
import ssl
import stat
import threading
import time
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from reconciler.clock import SystemClock
from reconciler.cluster.kubernetes import connect
from reconciler.cluster.port import (
    AlreadyExistsError,
    ConflictError,
    ExecTarget,
    ExpiredError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    NotServedError,
    ResourceType,
    UnavailableError,
)
from reconciler.errors import UsageError
from tests.support.clusters import config_map
from tests.support.wire import connected, kubeconfig, serving

SECRETS = ResourceType("", "v1", "Secret", "secrets", True, frozenset())
NODES = ResourceType("", "v1", "Node", "nodes", False, frozenset())


def line(kind, **metadata):
    """A watch event."""
    return json.dumps({"type": kind, "object": {"metadata": metadata}}).encode() + b"\n"


def status(code, message, reason="", **details):
    """A Status."""
    body = {"kind": "Status", "code": code, "message": message, "reason": reason}
    return body | ({"details": details} if details else {})


def watched(tmp_path, handler, *, client_s=30):
    """What a watch yields, and the error that ends it."""
    events = []
    with connected(handler, tmp_path, timeout_s=client_s) as (_, cluster):
        try:
            for event in cluster.watch(NODES, resource_version="5", timeout_s=1):
                events.append(event)
        except UnavailableError as error:
            return events, error
    return events, None


def test_a_watch_asks_for_bookmarks_and_its_own_end(tmp_path):
    """The request names the version, wants bookmarks, and tells the server when to stop."""

    def handler(call):
        call.stream(line("BOOKMARK", resourceVersion="9"))
        call.raw(b"0\r\n\r\n")

    with connected(handler, tmp_path) as (server, cluster):
        [event] = cluster.watch(NODES, resource_version="5", timeout_s=7)

    assert (event.type, event.object["metadata"]) == ("BOOKMARK", {"resourceVersion": "9"})
    assert server.calls[0].path == (
        "/api/v1/nodes?watch=true&allowWatchBookmarks=true&resourceVersion=5&timeoutSeconds=7"
    )


def test_a_half_open_watch_ends(tmp_path):
    """A connection that falls silent is given up soon after the time at which the server should have ended it."""

    def handler(call):
        call.stream(line("ADDED", name="one"))
        call.until_gone()

    started = time.monotonic()
    events, error = watched(tmp_path, handler, client_s=0.3)

    assert [e.type for e in events] == ["ADDED"]
    assert "no answer for 1.3 s" in error.message
    assert time.monotonic() - started < 5


def test_a_watch_event_in_pieces_is_one_event(tmp_path):
    """Events that come byte by byte, or several in one piece, are told apart by their lines."""
    text = (
        line("ADDED", name="one", note="ü")
        + line("DELETED", name="one")
        + b"\n"
        + line("ADDED", name="two")
    )

    def handler(call):
        call.stream(*(text[n : n + 1] for n in range(60)), text[60:])
        call.raw(b"0\r\n\r\n")

    events, error = watched(tmp_path, handler)

    assert error is None
    assert [(e.type, e.object["metadata"]["name"]) for e in events] == [
        ("ADDED", "one"),
        ("DELETED", "one"),
        ("ADDED", "two"),
    ]
    assert events[0].object["kind"] == "Node"


@pytest.mark.parametrize("tail", [b"", b'{"type":"ADDED","obj'])
def test_a_watch_that_is_cut_is_not_over(tmp_path, tail):
    """A stream without its proper end, between events or within one, is UnavailableError."""

    def handler(call):
        call.stream(line("ADDED", name="one"), *([tail] if tail else []))
        call.drop()

    events, error = watched(tmp_path, handler)

    assert [e.type for e in events] == ["ADDED"]
    assert error is not None


def test_half_an_event_before_a_proper_end_is_told(tmp_path):
    """A last line without its end is an error although the stream was closed properly."""

    def handler(call):
        call.stream(b'{"type":"ADDED"')
        call.raw(b"0\r\n\r\n")

    assert "within a line" in watched(tmp_path, handler)[1].message


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (status(410, "too old", "Expired"), ExpiredError),
        (status(410, "gone", "Gone"), ExpiredError),
        (status(500, "Timeout: Too large resource version: 228", "Timeout"), UnavailableError),
        (status(504, "later", "Timeout"), UnavailableError),
    ],
)
def test_an_error_event_after_200_is_raised(tmp_path, body, error):
    """A watch that answers 200 and then carries only an ERROR event fails as its Status says."""

    def handler(call):
        call.stream(json.dumps({"type": "ERROR", "object": body}).encode() + b"\n")
        call.raw(b"0\r\n\r\n")

    with connected(handler, tmp_path) as (_, cluster), pytest.raises(error):
        list(cluster.watch(NODES, resource_version="5", timeout_s=1))


def test_messages_never_carry_a_body(tmp_path):
    """Of an answer only the message of a Status is quoted, cut to 256 characters."""
    secret = {"kind": "Secret", "data": {"password": "aHVudGVyMg=="}}
    answers = [
        (422, secret),
        (422, status(422, "x" * 5000, "Invalid")),
        (502, "<html>aHVudGVyMg==</html>"),
    ]

    def handler(call):
        call.answer(*answers[len(server.calls) - 1])

    manifest = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": "n"},
    } | secret
    said = []
    with connected(handler, tmp_path) as (server, cluster):
        for _ in answers:
            with pytest.raises((InvalidError, UnavailableError)) as caught:
                cluster.create(SECRETS, manifest, manager="t")
            said.append(caught.value.message)

    assert not any("aHVudGVyMg" in message for message in said)
    assert said[0] == "create Secret n/s: the API server answered 422"
    assert said[1].endswith("422 Invalid: " + "x" * 256)


@pytest.mark.parametrize(
    ("code", "body", "error"),
    [
        (409, status(409, "exists", "AlreadyExists"), AlreadyExistsError),
        (409, status(409, "the quota has been modified", "Conflict"), ConflictError),
        (404, status(404, 'namespaces "n" not found', "NotFound", name="n"), NotFoundError),
        (
            404,
            status(404, "the server could not find the requested resource", "NotFound"),
            NotServedError,
        ),
        (404, "404 page not found", NotServedError),
        (
            403,
            status(403, "is forbidden: exceeded quota: q, used: pods=1", "Forbidden"),
            ForbiddenError,
        ),
        (
            403,
            status(403, "is forbidden: status unknown for quota: q, resources: pods", "Forbidden"),
            UnavailableError,
        ),
    ],
)
def test_one_code_with_two_meanings(tmp_path, code, body, error):
    """A quota's conflict is not an existing object, an unknown path is not an absent one.

    A quota that nobody has counted yet is not one that is used up: asking again helps.
    """

    def handler(call):
        call.answer(code, body)

    manifest = config_map("s")
    manifest["metadata"]["namespace"] = "n"
    with connected(handler, tmp_path) as (_, cluster), pytest.raises(error):
        cluster.create(SECRETS, manifest, manager="t")


def test_what_is_not_json_is_told(tmp_path):
    """A proxy's page with code 200 is UnavailableError, not an object."""

    def handler(call):
        call.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n<html></html>")

    with (
        connected(handler, tmp_path) as (_, cluster),
        pytest.raises(UnavailableError, match="JSON"),
    ):
        cluster.get(NODES, "one")


def test_a_retry_after_date_is_understood(tmp_path):
    """Retry-After may be a date, taken against the answer's own."""
    naps = []

    def handler(call):
        if len(server.calls) == 1:
            call.answer(
                503,
                {},
                Date="Mon, 01 Jun 2026 10:00:00 GMT",
                Retry_After="Mon, 01 Jun 2026 10:00:09 GMT",
            )
        else:
            call.answer(200, {"metadata": {"name": "one"}})

    with connected(handler, tmp_path, sleep=naps.append) as (server, cluster):
        assert cluster.get(NODES, "one")["kind"] == "Node"
    assert naps == [9.0]


def test_names_cannot_leave_their_path(tmp_path):
    """A name with slashes and dots stays one segment."""

    def handler(call):
        call.answer(404, status(404, "no", "NotFound", name="x"))

    with connected(handler, tmp_path) as (server, cluster):
        assert cluster.get(SECRETS, "../../nodes?x=y#z", namespace="a/b") is None

    assert server.calls[0].path == "/api/v1/namespaces/a%2Fb/secrets/..%2F..%2Fnodes%3Fx%3Dy%23z"


def test_writes_need_a_place(tmp_path):
    """A namespaced object without a namespace, or without a name, is refused before anything is sent."""
    with connected(lambda call: call.answer(200, {}), tmp_path) as (server, cluster):
        with pytest.raises(InvalidError, match="no namespace"):
            cluster.create(SECRETS, {"metadata": {"name": "s"}}, manager="t")
        with pytest.raises(InvalidError, match="no name"):
            cluster.delete(SECRETS, "", namespace="n")
        with pytest.raises(InvalidError, match="forced"):
            cluster.patch(SECRETS, "s", {}, namespace="n", manager="t", force=True)

    assert server.calls == []


def test_one_pool_serves_threads(tmp_path):
    """Requests of many threads share connections, and each gets its own answer."""

    def handler(call):
        call.answer(200, {"metadata": {"name": call.path.rpartition("/")[2]}})

    names = [f"node-{n}" for n in range(200)]
    got = {}
    with connected(handler, tmp_path) as (server, cluster):

        def work(part):
            for name in part:
                got[name] = cluster.get(NODES, name)["metadata"]["name"]

        threads = [threading.Thread(target=work, args=(names[n::4],)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        connections = len(server.open)

    assert got == {name: name for name in names}
    assert connections <= 4


def test_credentials_of_a_plugin_are_refreshed(tmp_path):
    """An exec plugin is asked again when its token has expired, and not before."""
    for ends_in_s, runs in ((-60, 3), (3600, 1)):
        counter = tmp_path / f"runs{runs}"
        ends_at = SystemClock().now() + timedelta(seconds=ends_in_s)
        plugin = tmp_path / f"plugin{runs}"
        token = {"token": "t-$N", "expirationTimestamp": ends_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        credential = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": token,
        }
        text = json.dumps(credential).replace('"', '\\"')
        plugin.write_text(
            f'#!/bin/sh\necho x >> {counter}\nN=$(wc -l < {counter})\necho "{text}"\n'
        )
        plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
        user = {
            "exec": {
                "apiVersion": "client.authentication.k8s.io/v1",
                "command": str(plugin),
                "interactiveMode": "Never",
            }
        }

        with serving(lambda call: call.answer(200, {"metadata": {}})) as server:
            path = kubeconfig(tmp_path / "kc", server.url, user=user)
            with connect(name="wire", kubeconfig=path) as cluster:
                cluster.get(NODES, "one")
                cluster.get(NODES, "two")

        assert [call.headers["authorization"] for call in server.calls] == [
            f"Bearer t-{min(2, runs)}",
            f"Bearer t-{runs}",
        ]


def test_a_configuration_that_cannot_be_used_is_told(tmp_path):
    """A missing file, an unknown context, no cluster around: UsageError with the cluster's name."""
    path = kubeconfig(tmp_path / "kc", "http://127.0.0.1:1")
    broken = tmp_path / "broken"
    broken.write_text("users: [{token: very-secret-token")
    for how in (
        {"kubeconfig": tmp_path / "none"},
        {"kubeconfig": path, "context": "other"},
        {"kubeconfig": broken},
        {"in_cluster": True},
        {"in_cluster": True, "kubeconfig": path},
    ):
        with pytest.raises(UsageError, match="^connect prod: ") as caught:
            connect(name="prod", **how)
        assert "very-secret-token" not in str(caught.value)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """A certificate of 127.0.0.1, its own authority, as a file and as a server's context."""
    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = SystemClock().now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(certificate.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return folder / "ca.pem", context


def test_tls_is_checked_for_requests_and_commands(tmp_path, authority):
    """With its authority known a server is trusted, for requests and for exec; without, for neither."""
    ca, context = authority

    def handler(call):
        if "upgrade" in call.headers:
            call.upgrade()
            call.frame(b"\x01" + b"x" * 200_000)
            _, heard = call.hear()
            call.frame(b"\x01" + heard[1:])
            call.success()
        else:
            call.answer(200, {"metadata": {"name": "one"}})

    with serving(handler, context=context) as server:
        path = kubeconfig(tmp_path / "kc", server.url, **{"certificate-authority": str(ca)})
        with connect(name="tls", kubeconfig=path) as cluster:
            assert cluster.get(NODES, "one")
            with cluster.execute(ExecTarget("n", "p"), ["cat"], stdin=True) as session:
                session.send(b"over TLS")
                assert b"".join(session.read()) == b"x" * 200_000 + b"over TLS"
                assert session.result().exit_code == 0
        assert server.calls[-1].headers["authorization"] == "Bearer very-secret-token"

        with connect(name="tls", kubeconfig=kubeconfig(tmp_path / "kc2", server.url)) as stranger:
            with pytest.raises(UnavailableError, match="TLS failed"):
                stranger.get(NODES, "one")
            with pytest.raises(UnavailableError, match="TLS failed"):
                stranger.execute(ExecTarget("n", "p"), ["cat"])
