"""What goes wrong between here and a bucket, and what becomes of it."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime

import pytest

from reconciler.clock import SteppedClock
from reconciler.errors import LocationMissingError, UsageError
from reconciler.store.port import (
    ObjectExistsError,
    ObjectMissingError,
    StorageReadOnlyError,
    StorageUnavailableError,
)
from reconciler.store.s3 import Bucket, Credentials, S3Storage, StorageKeyRejectedError
from reconciler.store.storage import open_storage
from tests.support.buckets import USER
from tests.support.relay import relaying
from tests.support.wire import serving

SECRET = "not-the-right-key-00000000"


@pytest.fixture
def relay(minio):
    """A relay in front of MinIO."""
    with relaying("127.0.0.1", minio.port) as made:
        yield made


def no_sleep(_seconds):
    """No pauses between attempts."""


@pytest.mark.parametrize("lost", [1, 3])
def test_a_lost_answer_to_a_create_is_no_loss(bucket, opened, relay, lost):
    """The object is written once and the create succeeds, though the server's first answers never came."""
    storage = opened(bucket, endpoint=relay.url, sleep=no_sleep)
    relay.lose_answers(b"PUT ", lost)
    storage.create("points/one", b"content")

    assert relay.left == 0
    assert opened(bucket).read("points/one") == b"content"
    with pytest.raises(ObjectExistsError):
        storage.create("points/one", b"content")


def test_a_lost_race_is_told_although_the_answer_was_lost(bucket, opened, relay):
    """Another writer's object under the name is not taken for ours when our first answer was lost."""
    opened(bucket).create("points/one", b"another")
    storage = opened(bucket, endpoint=relay.url, sleep=no_sleep)
    relay.lose_answers(b"PUT ", 1)

    with pytest.raises(ObjectExistsError):
        storage.create("points/one", b"ours")
    assert storage.read("points/one") == b"another"


def test_answers_that_stay_lost_end(bucket, opened, relay):
    """After a bounded number of attempts it is told that the storage does not answer; nothing is known of the object."""
    storage = opened(bucket, endpoint=relay.url, sleep=no_sleep)
    relay.lose_answers(b"PUT ", 1000)

    with pytest.raises(StorageUnavailableError):
        storage.create("points/one", b"content")
    assert relay.left >= 1000 - 10


@pytest.mark.parametrize("what", ["read", "list", "delete", "replace"])
def test_what_can_be_repeated_is(bucket, opened, relay, what):
    """A lost answer to anything else is asked for again."""
    opened(bucket).create("a/one", b"content")
    storage = opened(bucket, endpoint=relay.url)
    verb = {"read": b"GET ", "list": b"GET ", "delete": b"POST ", "replace": b"PUT "}[what]
    relay.lose_answers(verb, 1)
    match what:
        case "read":
            assert storage.read("a/one") == b"content"
        case "list":
            assert [one.name for one in storage.entries("a/")] == ["a/one"]
        case "delete":
            storage.delete("a/one")
            assert list(storage.entries("")) == []
        case _:
            storage.replace("a/one", b"new")
            assert storage.read("a/one") == b"new"
    assert relay.left == 0


def test_many_objects_are_listed(bucket, opened):
    """More than one page of a listing (1,000): all of them, once, in order."""
    storage = opened(bucket)
    names = [f"d/{at:04}" for at in range(1203)]
    parts = [names[at::4] for at in range(4)]
    threads = [
        threading.Thread(target=lambda part=part: [storage.create(one, b"x") for one in part])
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [one.name for one in storage.entries("d/")] == names
    assert [one.name for one in storage.entries("d/12")] == names[1200:]


def test_a_large_object_comes_back_whole(bucket, opened):
    """A pack of 64 MiB, whole and in parts."""
    storage = opened(bucket)
    data = bytes(range(256)) * (64 << 12)
    storage.create("packs/large", data)

    assert storage.read("packs/large") == data
    assert storage.read("packs/large", offset=len(data) - 5) == data[-5:]


def test_prefixes_do_not_see_each_other(bucket, opened):
    """Two locations in one bucket, one prefix the beginning of the other."""
    one, other = opened(bucket, "clusters/a"), opened(bucket, "clusters/ab")
    one.create("x", b"1")
    other.create("y", b"2")

    assert [o.name for o in one.entries("")] == ["x"]
    assert [o.name for o in other.entries("")] == ["y"]


def test_a_wrong_key_is_told(bucket, opened):
    """A wrong secret key, and one that does not exist: exit code 12; the key is in no message."""
    for credentials in (
        Credentials(USER, SECRET),
        Credentials("nobody-knows-this", SECRET),
    ):
        storage = opened(bucket, credentials=credentials)
        for call in (
            lambda s=storage: s.read("x"),
            lambda s=storage: list(s.entries("")),
            lambda s=storage: s.create("x", b""),
        ):
            with pytest.raises(StorageKeyRejectedError) as told:
                call()
            assert told.value.exit_code == 12
            assert SECRET not in f"{told.value} {told.value.hint} {credentials!r}"


def test_a_missing_bucket_is_told(minio, opened):
    """Exit code 10, with what to do."""
    storage = opened("b-nowhere")
    for call in (
        lambda: storage.read("x"),
        lambda: list(storage.entries("")),
        lambda: storage.create("x", b""),
        storage.now,
    ):
        with pytest.raises(LocationMissingError) as told:
            call()
        assert told.value.exit_code == 10
        assert "bucket" in told.value.hint


def answering(*answers):
    """A handler that gives these answers in turn, the last one for ever; each is (code, headers, body) or a function."""
    left = list(answers)

    def handler(call):
        answer = left.pop(0) if len(left) > 1 else left[0]
        if callable(answer):
            answer(call)
            return
        code, headers, body = answer
        lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        call.raw("\r\n".join(lines).encode(), b"\r\n\r\n", b"" if call.method == "HEAD" else body)

    return handler


def error(code):
    """An S3 error document."""
    return f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()


FOUND = (
    200,
    {"ETag": '"e"', "Last-Modified": "Wed, 25 Nov 2026 10:00:00 GMT"},
    b"content",
)


def wired(server, **how):
    """Storage at such a server."""
    place = Bucket.parse(f"s3://bucket?endpoint={server.url}")
    return S3Storage(place, credentials=Credentials("a", "b"), sleep=no_sleep, **how)


@pytest.mark.parametrize("code", [429, 503, 500])
def test_a_busy_server_is_asked_again(code):
    """SlowDown, and errors of the server: the read comes after some attempts."""
    busy = (code, {"Retry-After": "0"}, error("SlowDown"))
    with serving(answering(busy, busy, FOUND)) as server:
        assert wired(server).read("x") == b"content"
        assert len(server.calls) == 3


def test_a_server_that_stays_busy_is_told():
    """It ends within its number of attempts, as something that may pass."""
    with serving(answering((503, {}, error("SlowDown")))) as server:
        with pytest.raises(StorageUnavailableError, match="SlowDown"):
            wired(server).create("x", b"content")
        assert len(server.calls) == 6


def test_a_body_that_is_cut_is_read_again():
    """A connection that breaks within an object: nothing short is taken for the object."""

    def cut(call):
        call.raw(
            b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nETag: "e"\r\n'
            b"Last-Modified: Wed, 25 Nov 2026 10:00:00 GMT\r\n\r\ncon"
        )
        call.drop()

    with serving(answering(cut, FOUND)) as server:
        try:
            assert wired(server).read("x") == b"content"
        except StorageUnavailableError:
            assert wired(server).read("x") == b"content"


def test_a_server_that_says_nothing_is_given_up():
    """No answer within the time of one request, however often: told, and not waited for without end."""

    def silent(call):
        call.until_gone()

    with serving(silent) as server, pytest.raises(StorageUnavailableError):
        wired(server, answer_s=0.2).create("x", b"content")


@pytest.mark.parametrize(
    ("code", "word", "verb", "told"),
    [
        (403, "AccessDenied", "create", StorageReadOnlyError),
        (403, "AccessDenied", "read", LocationMissingError),
        (403, "RequestTimeTooSkewed", "create", StorageUnavailableError),
        (403, "ExpiredToken", "read", StorageKeyRejectedError),
        (404, "NoSuchKey", "read", ObjectMissingError),
        (301, "PermanentRedirect", "read", StorageUnavailableError),
    ],
)
def test_refusals_are_told_apart(code, word, verb, told):
    """Each code of S3 that matters has its own meaning here."""
    with serving(answering((code, {}, error(word)))) as server:
        storage = wired(server)
        with pytest.raises(told):
            storage.create("x", b"1") if verb == "create" else storage.read("x")


def test_a_key_that_may_only_read_has_the_local_time():
    """Where nothing can be written, the server cannot be asked for its time."""
    with serving(answering((403, {}, error("AccessDenied")))) as server:
        clock = SteppedClock(datetime(2026, 11, 25, tzinfo=UTC))
        assert wired(server, clock=clock).now() == clock.now()


@pytest.mark.parametrize("code", [409, 412])
def test_a_taken_name_is_told_from_a_conflict(code):
    """Refused because the object is there: it exists. Refused while nothing is there: tried again, a few times."""
    refused, absent = (code, {}, error("Conflict")), (404, {}, error("NoSuchKey"))
    with serving(answering(refused, FOUND)) as server, pytest.raises(ObjectExistsError):
        wired(server).create("x", b"other")
    with serving(answering(refused, absent, (200, {"ETag": '"e"'}, b""))) as server:
        wired(server).create("x", b"other")
    refusing = answering(*[refused, absent] * 10)
    with serving(refusing) as server, pytest.raises(StorageUnavailableError, match="others write"):
        wired(server).create("x", b"other")


def test_a_server_that_is_not_there(minio):
    """Nobody listens, or it speaks no TLS: it may pass, and the message has the location and no answer of a server."""
    with serving(answering(FOUND)) as server:
        dead = server.url
    for endpoint in (dead, minio.endpoint.replace("http://", "https://")):
        place = Bucket.parse(f"s3://bucket/p?endpoint={endpoint}")
        with pytest.raises(StorageUnavailableError, match="cannot connect"):
            S3Storage(place, credentials=Credentials("a", "b"), sleep=no_sleep).create("x", b"")


@pytest.mark.parametrize(
    "url",
    [
        "s3://",
        "s3:///prefix",
        "s3://UPPER/x",
        "s3://user:secret@bucket/x",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/x?endpoint=ftp://h",
        "s3://bucket/x?endpoint=http://key:secret@h",
        "s3://bucket/x?accessKey=secret",
        "s3://bucket/x#part",
    ],
)
def test_urls_are_checked(url):
    """A URL that is not whole, or carries a key, is refused, and what might be a key is not said."""
    with pytest.raises(UsageError) as told:
        open_storage(url)
    assert "secret" not in json.dumps([str(told.value), told.value.hint])
