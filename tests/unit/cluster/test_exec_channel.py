"""The exec channel against a server that says exactly these frames."""

from __future__ import annotations

import threading
import time

import pytest

from reconciler.cluster import channel
from reconciler.cluster.connection import Connection
from reconciler.cluster.port import (
    ExecBrokenError,
    ExecTarget,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    UnauthorizedError,
    UnavailableError,
)
from tests.support.sandbox import eventually
from tests.support.wire import connected, serving

TARGET = ExecTarget("n", "p", "c")
FAILED = (
    b'\x03{"metadata":{},"status":"Failure","reason":"NonZeroExitCode",'
    b'"details":{"causes":[{"reason":"ExitCode","message":"%d"}]}}'
)


def played(tmp_path, play, *, stdin=False):
    """What a session gives when the server plays `play` after the upgrade."""

    def handler(call):
        call.upgrade()
        play(call)

    with connected(handler, tmp_path) as (server, cluster):
        with cluster.execute(TARGET, ["a b", "c&d"], stdin=stdin) as session:
            out = b"".join(session.read())
            return out, session.result(), server.calls[0]


def broken(tmp_path, play):
    """How a session breaks."""
    with pytest.raises(ExecBrokenError) as caught:
        played(tmp_path, play)
    return caught.value.message


def test_the_request_names_command_container_and_streams(tmp_path):
    """Arguments are sent one by one; v5 is asked for before v4; no Origin betrays a browser."""
    _, _, call = played(tmp_path, lambda call: call.success())

    assert (
        call.path
        == "/api/v1/namespaces/n/pods/p/exec?command=a+b&command=c%26d&container=c&stdout=true&stderr=true"
    )
    assert call.headers["sec-websocket-protocol"] == "v5.channel.k8s.io,v4.channel.k8s.io"
    assert "origin" not in call.headers


def test_streams_are_told_apart(tmp_path):
    """stdout and stderr come apart, messages without content are skipped, unknown channels too."""

    def play(call):
        for message in (
            b"\x01",
            b"",
            b"\x02",
            b"\x01out",
            b"\x02err",
            b"\x09what",
            b"\x01put\n",
            b"\xff\x01",
        ):
            call.frame(message)
        call.frame(FAILED % 42)
        call.frame(b"\x03\xe8", opcode=8)

    out, ended, _ = played(tmp_path, play)

    assert (out, ended.stderr, ended.exit_code) == (b"output\n", b"err", 42)


def test_messages_in_fragments_are_whole(tmp_path):
    """A message may come in several frames, with control frames between them."""

    def play(call):
        call.frame(b"\x01one ", last=False)
        call.frame(b"are you there", opcode=9)
        call.frame(b"two ", opcode=0, last=False)
        call.frame(b"three", opcode=0)
        assert call.hear() == (10, b"are you there")
        call.success()

    assert played(tmp_path, play)[0] == b"one two three"


def test_only_the_end_of_stderr_is_kept(tmp_path):
    """Of a long stderr the last 64 KiB are kept."""

    def play(call):
        for n in range(200):
            call.frame(b"\x02" + bytes([n]) * 1000)
        call.success()

    stderr = played(tmp_path, play)[1].stderr

    assert len(stderr) == 64 << 10
    assert stderr.endswith(bytes([199]) * 1000) and bytes([0]) not in stderr


@pytest.mark.parametrize("ending", ["close", "cut", "cut within a frame"])
def test_a_stream_without_a_status_is_broken(tmp_path, ending):
    """However the stream ends, without a status nobody knows how the command did."""

    def play(call):
        call.frame(b"\x01half")
        if ending == "close":
            call.frame(b"\x03\xe8", opcode=8)
        elif ending == "cut within a frame":
            call.raw(b"\x82\x7e\x10\x00\x01abc")
        if ending != "close":
            call.drop()

    assert "without a status" in broken(tmp_path, play)


def test_a_status_is_needed_to_the_word(tmp_path):
    """A status that says neither success nor an exit code is no result; a missing program is 127."""

    def play(text):
        def answer(call):
            call.frame(b"\x03" + text)
            call.frame(b"\x03\xe8", opcode=8)

        return answer

    assert "unreadable" in broken(tmp_path, play(b"{"))
    assert "dead" in broken(
        tmp_path, play(b'{"status":"Failure","message":"the container is dead"}')
    )
    ended = played(
        tmp_path,
        play(
            b'{"status":"Failure","message":"exec: \\"sh\\": executable file not found in $PATH"}'
        ),
    )[1]
    assert ended.exit_code == 127


@pytest.mark.parametrize(
    "frame",
    [b"\x82\x80\0\0\0\0", b"\x82\x7f" + (1 << 40).to_bytes(8, "big")],
    ids=["masked", "too long"],
)
def test_a_server_that_breaks_the_protocol_is_left(tmp_path, frame):
    """A masked frame, or one longer than any memory, ends the session."""
    assert "a frame is" in broken(tmp_path, lambda call: (call.raw(frame), call.until_gone()))


def test_an_old_server_cannot_take_input(tmp_path):
    """v4 cannot tell the end of input, so that input is refused; output works."""

    def handler(call):
        call.upgrade("v4.channel.k8s.io")
        call.frame(b"\x01out")
        call.success()

    with connected(handler, tmp_path) as (_, cluster):
        with pytest.raises(NotServedError, match=r"v4\.channel\.k8s\.io"):
            cluster.execute(TARGET, ["cat"], stdin=True)
        with cluster.execute(TARGET, ["cat"]) as session:
            assert b"".join(session.read()) == b"out"


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        (401, "Unauthorized", UnauthorizedError),
        (403, "pods is forbidden", ForbiddenError),
        (404, 'pods "p" not found', NotFoundError),
        (400, "container c is not valid for pod p", NotFoundError),
        (429, "slow down", UnavailableError),
        (500, 'unable to upgrade connection: container not found ("c")', ExecBrokenError),
        (503, "later", ExecBrokenError),
    ],
)
def test_refusals_have_their_names(tmp_path, code, message, error):
    """A command that cannot be started fails as a request would, or as a broken stream."""
    body = {"kind": "Status", "code": code, "message": message, "details": {"name": "p"}}

    with connected(lambda call: call.answer(code, body, Retry_After="3"), tmp_path) as (_, cluster):
        with pytest.raises(error, match="^run a command in n/p: .*") as caught:
            cluster.execute(TARGET, ["true"])

    assert message in caught.value.message
    if code == 429:
        assert caught.value.retry_after_s == 3


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"", b"SSH-2.0\r\n\r\n"]
)
def test_a_handshake_that_fails_is_told(tmp_path, answer):
    """What does not speak WebSocket is not a session."""

    def handler(call):
        call.raw(answer)
        call.drop()

    with connected(handler, tmp_path) as (_, cluster), pytest.raises(ExecBrokenError):
        cluster.execute(TARGET, ["true"])


def test_input_is_framed_and_half_closed(tmp_path):
    """Input goes in messages of channel 0 and ends with FF 00; output still comes afterwards."""
    heard = []

    def play(call):
        while (message := call.hear()[1]) != b"\xff\x00":
            heard.append(message)
        call.frame(b"\x01done")
        call.success()

    content = bytes(range(256)) * 400

    def handler(call):
        call.upgrade()
        play(call)

    with connected(handler, tmp_path) as (_, cluster):
        with cluster.execute(TARGET, ["cat"], stdin=True) as session:
            session.send(content)
            session.send(b"")
            session.close_stdin()
            session.close_stdin()
            assert b"".join(session.read()) == b"done"

    assert all(message[0] == 0 and 1 < len(message) <= 32769 for message in heard)
    assert b"".join(message[1:] for message in heard) == content


def test_a_slow_reader_holds_the_server_back(tmp_path):
    """What is not read stays with the server: memory does not grow with the stream."""
    sent = [0]

    def handler(call):
        call.upgrade()
        for _ in range(1024):
            call.frame(b"\x01" + bytes(65536))
            sent[0] += 65536
        call.success()

    with connected(handler, tmp_path) as (_, cluster):
        with cluster.execute(TARGET, ["cat"]) as session:
            pieces = session.read()
            size = len(next(pieces))
            eventually(lambda: sent[0] > 4 << 20)
            held = _settled(sent)
            assert held < 32 << 20
            size += sum(len(piece) for piece in pieces)

    assert size == 64 << 20


def _settled(sent):
    before = -1
    while before != sent[0]:
        before = sent[0]
        threading.Event().wait(0.2)
    return before


def test_a_slow_command_blocks_the_sender_until_closed(tmp_path):
    """`send` waits for a far side that does not read, and `close` from elsewhere ends the wait."""

    def handler(call):
        call.upgrade()
        waiting.wait(20)

    waiting = threading.Event()
    with connected(handler, tmp_path) as (_, cluster):
        session = cluster.execute(TARGET, ["cat"], stdin=True)
        threading.Timer(0.5, session.close).start()
        with pytest.raises(ExecBrokenError):
            for _ in range(1000):
                session.send(bytes(1 << 20))
        waiting.set()


def test_sending_to_a_command_that_ended_fails(tmp_path):
    """When the command ends before its input the sender is told, and the result can still be had."""

    def handler(call):
        call.upgrade()
        call.hear()
        call.frame(FAILED % 3)
        call.frame(b"\x03\xe8", opcode=8)

    with connected(handler, tmp_path) as (_, cluster):
        with cluster.execute(TARGET, ["false"], stdin=True) as session:
            with pytest.raises(ExecBrokenError):
                for _ in range(10_000):
                    session.send(bytes(65536))
            assert session.result().exit_code == 3


def _open(server, *, stdin=False):
    from kubernetes import client

    configuration = client.Configuration()
    configuration.host = server.url
    connection = Connection(cluster="wire", configuration=configuration)
    return connection, channel.open_channel(
        connection, "/exec", query=[], stdin=stdin, subject="run", ping_after_s=0.1
    )


def test_a_silent_server_is_pinged_and_kept_when_it_answers(tmp_path):
    """A command that is silent for long stays connected as long as pings are answered."""

    def handler(call):
        call.upgrade()
        for _ in range(8):
            opcode, payload = call.hear()
            assert opcode == 9
            call.frame(payload, opcode=10)
        call.frame(b"\x01late")
        call.success()

    with serving(handler) as server:
        connection, session = _open(server)
        with session:
            assert b"".join(session.read()) == b"late"
        connection.close()


def test_a_server_that_answers_no_ping_is_given_up(tmp_path):
    """Without an answer to any ping the far side is gone: nothing waits for ever."""

    def handler(call):
        call.upgrade()
        call.until_gone()

    with serving(handler) as server:
        connection, session = _open(server)
        started = time.monotonic()
        with session, pytest.raises(ExecBrokenError, match="no ping"):
            session.result()
        connection.close()
    assert time.monotonic() - started < 5


@pytest.mark.slow
def test_the_channel_is_fast(tmp_path):
    """200 MB come out within four seconds on a shared machine, sent by the same process."""
    block = b"\x01" + bytes(32767)

    def handler(call):
        call.upgrade()
        for _ in range(6104):
            call.frame(block)
        call.success()

    with connected(handler, tmp_path) as (_, cluster):
        started = time.monotonic()
        with cluster.execute(TARGET, ["cat"]) as session:
            size = sum(len(piece) for piece in session.read())
        spent = time.monotonic() - started

    assert size == 6104 * 32767
    assert spent < 4
