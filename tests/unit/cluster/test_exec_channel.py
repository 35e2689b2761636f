"""The exec channel against a server that says exactly these frames."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from reconciler.cluster import channel
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
from tests.support.wire import connected

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
    missing = (
        b"Internal error occurred: " * 9 + b"unable to start container process: "
        b'exec: \\"sh\\": executable file not found in $PATH: unknown'
    )
    ended = played(tmp_path, play(b'{"status":"Failure","message":"' + missing + b'"}'))[1]
    assert ended.exit_code == 127
    assert ended.stderr.endswith(b'exec: "sh": executable file not found in $PATH: unknown')


@pytest.mark.parametrize(
    "frame",
    [b"\x82\x80\0\0\0\0", b"\x82\x7f" + (1 << 40).to_bytes(8, "big")],
    ids=["masked", "too long"],
)
def test_a_server_that_breaks_the_protocol_is_left(tmp_path, frame):
    """A masked frame, or one longer than any memory, ends the session."""
    assert "a frame is" in broken(tmp_path, lambda call: (call.raw(frame), call.until_gone()))


@pytest.mark.parametrize("code", [1001, 1011, 4000])
def test_a_close_code_says_why_a_status_is_missing(tmp_path, code):
    """A server that closes with another code than 1000 is quoted when it sent no status, and only then."""
    close = code.to_bytes(2, "big") + b"going \n away"

    def play(call):
        call.frame(b"\x01half")
        call.frame(close, opcode=8)

    def play_with_status(call):
        call.frame(b"\x01all")
        call.frame(FAILED % 3)
        call.frame(close, opcode=8)

    assert f"without a status: close code {code}: going away" in broken(tmp_path, play)
    out, ended, _ = played(tmp_path, play_with_status)
    assert (out, ended.exit_code) == (b"all", 3)


def test_a_server_that_does_not_close_after_the_status_is_left(tmp_path, monkeypatch):
    """After the status and a span of quiet the session ends by itself, with all that came."""
    monkeypatch.setattr(channel, "_AFTER_STATUS_S", 0.2)

    def play(call):
        call.frame(b"\x03" + b'{"status":"Success"}')
        call.frame(b"\x01late")
        call.until_gone()

    out, ended, _ = played(tmp_path, play)

    assert (out, ended.exit_code) == (b"late", 0)


def test_an_old_server_cannot_tell_the_end_of_input(tmp_path):
    """Under v4 input and output work; the session says that its half-close does not, and sends none."""
    heard = []

    def handler(call):
        call.upgrade("v4.channel.k8s.io")
        heard.append(call.hear()[1])
        call.success()
        with contextlib.suppress(ConnectionError):
            while True:
                heard.append(call.hear())

    with connected(handler, tmp_path) as (_, cluster):
        with cluster.execute(TARGET, ["head", "-c", "4"], stdin=True) as session:
            session.send(b"four")
            session.close_stdin()
            assert session.result().exit_code == 0
            assert not session.half_closes

    assert heard[0] == b"\x00four"
    assert [opcode for opcode, _ in heard[1:]] == [8]


def test_a_server_that_speaks_no_protocol_of_ours_is_told(tmp_path):
    """403 without a Status is how a real server refuses a subprotocol; another word in the answer is refused here."""

    def refuse(call):
        call.raw(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    for handler in (refuse, lambda call: call.upgrade("base64.channel.k8s.io")):
        with connected(handler, tmp_path) as (_, cluster):
            with pytest.raises((NotServedError, ExecBrokenError)) as caught:
                cluster.execute(TARGET, ["true"])
        if handler is refuse:
            assert isinstance(caught.value, NotServedError)
            assert "neither v5.channel.k8s.io nor v4.channel.k8s.io" in caught.value.message


@pytest.mark.parametrize(
    ("said", "verb"),
    [
        ('User "u" cannot get resource "pods/exec" in API group "" in the namespace "n"', "get"),
        ("", "create"),
    ],
)
def test_a_missing_verb_is_named(tmp_path, said, verb):
    """RBAC names the verb it asked for first; the second one, since 1.35, it leaves out, and we name it."""
    body = {
        "kind": "Status",
        "code": 403,
        "reason": "Forbidden",
        "message": f'pods "p" is forbidden: {said}',
    }

    with connected(lambda call: call.answer(403, body), tmp_path) as (_, cluster):
        with pytest.raises(ForbiddenError, match=f"the verb {verb} on pods/exec is missing$"):
            cluster.execute(TARGET, ["true"])


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


def test_pings_go_before_input_that_waits(tmp_path):
    """A ping is answered though a megabyte of input is queued before it: a proxy waits for no queue."""
    heard = []

    def handler(call):
        call.upgrade()
        call.hear()
        call.frame(b"there?", opcode=9)
        while (message := call.hear())[0] != 10:
            heard.append(len(message[1]))
        call.success()

    with connected(handler, tmp_path) as (_, cluster):
        with cluster.execute(TARGET, ["cat"], stdin=True) as session:
            with pytest.raises(ExecBrokenError):
                while True:
                    session.send(bytes(1 << 20))
            assert session.result().exit_code == 0


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
