"""Storage in a bucket that speaks S3 (`s3://bucket/prefix?endpoint=…&region=…`).

`create` is a conditional put (`If-None-Match: *`, RFC 9110 §13.1.2), so of many writers one wins. An answer that was
lost does not say whether the object was written: the put is sent again, and when the name is taken then, the object
that is there is compared with what was sent. Everything else can be repeated, and is, a bounded number of times.

Keys and session tokens come from where the operator's configuration says, else from the environment or the platform
(`AWS_ACCESS_KEY_ID`, web identity, instance role). Neither they nor answers of the server are in messages.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlsplit

from reconciler.clock import Clock, SystemClock
from reconciler.errors import LocationMissingError, ReconcilerError, TerminalError, UsageError
from reconciler.kinds.platform import BUCKET, BUCKET_OPTIONS
from reconciler.store.naming import PART, check_name, check_prefix
from reconciler.store.port import (
    ObjectExistsError,
    ObjectMissingError,
    StorageFullError,
    StorageReadOnlyError,
    StorageUnavailableError,
    StoredObject,
)

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import ClientConfig, S3Config, S3Store

ATTEMPTS = 6
FIRST_WAIT_S = 0.2
CONNECT_S = 10
ANSWER_S = 120
"""How long one request may take, its body included: packs have some tens of megabytes."""
RETRY_WITHIN = timedelta(minutes=3)
_CLOCK = ".now-"
_CODE = re.compile(r"<Code>([A-Za-z]+)</Code>")
_STATUS = re.compile(r"\b(?:status code|Server returned[^:]*):? ?(\d{3})|\b([45]\d\d) [A-Z][a-z]")
_BEYOND = re.compile(r"\b416\b|InvalidRange")
_KEYS = frozenset(
    {
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "InvalidToken",
        "ExpiredToken",
        "TokenRefreshRequired",
    }
)
_FULL = frozenset(
    {"QuotaExceeded", "XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "StorageFull"}
)
_SKEW = frozenset({"RequestTimeTooSkewed", "RequestExpired"})
_WRITES = frozenset({"write", "delete", "ask for the time of"})


class StorageKeyRejectedError(TerminalError):
    """The object store does not take the access key."""

    exit_code = 12


@dataclass(frozen=True)
class Credentials:
    """An access key."""

    access_key_id: str
    secret_access_key: str = dataclass_field(repr=False)
    session_token: str = dataclass_field(default="", repr=False)


@dataclass(frozen=True)
class Bucket:
    """What an `s3://` URL says."""

    name: str
    prefix: str
    endpoint: str
    region: str

    @classmethod
    def parse(cls, url: str) -> Bucket:
        """Read a URL.

        Raises:
            UsageError: it is not `s3://bucket[/prefix][?endpoint=URL&region=NAME]`.
        """
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        prefix = parts.path.strip("/")
        endpoint = urlsplit(options.get("endpoint", ""))
        problem = ""
        if not BUCKET.fullmatch(parts.netloc):
            problem = "the bucket's name has 3 to 63 lower-case letters, digits, dots and dashes"
        elif prefix and not all(PART.fullmatch(part) for part in prefix.split("/")):
            problem = "the prefix has a part that is no plain name"
        elif unknown := set(options) - BUCKET_OPTIONS:
            problem = f"unknown option {min(unknown)[:40]!r}"
        elif "endpoint" in options and (
            endpoint.scheme not in ("http", "https")
            or not endpoint.hostname
            or "@" in endpoint.netloc
        ):
            problem = "endpoint is no http or https address"
        if problem or parts.fragment:
            raise UsageError(
                f"open location s3://{parts.netloc.rpartition('@')[2]}: {problem or 'it has a fragment'}",
                hint="write s3://bucket/prefix?endpoint=https://host:port&region=name; keys are never part of it",
            )
        return cls(parts.netloc, prefix, options.get("endpoint", ""), options.get("region", ""))

    @property
    def url(self) -> str:
        """The URL again."""
        options = {"endpoint": self.endpoint, "region": self.region}
        query = "&".join(
            f"{name}={quote(value, safe=':/')}" for name, value in options.items() if value
        )
        place = f"s3://{self.name}" + (f"/{self.prefix}" if self.prefix else "")
        return f"{place}?{query}" if query else place


class S3Storage:
    """Objects below a prefix of a bucket. Safe to share between threads."""

    def __init__(
        self,
        bucket: Bucket,
        *,
        credentials: Credentials | None = None,
        answer_s: float = ANSWER_S,
        clock: Clock | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._bucket = bucket
        self._sleep = sleep
        self._clock = clock or SystemClock()
        """Asked only where the server cannot be: the key may not write."""
        self._again = _store(bucket, credentials, retries=ATTEMPTS - 1, answer_s=answer_s)
        self._once = _store(bucket, credentials, retries=0, answer_s=answer_s)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._bucket.url

    def create(self, name: str, data: bytes) -> None:
        """Write an object that must be absent; durable when the server has answered."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        check_name(name)
        is_unsure = False
        for attempt in range(ATTEMPTS):
            try:
                with self._translated("write", name, over=(AlreadyExistsError, PreconditionError)):
                    obstore.put(self._once, name, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                there = self._content(name)
                # Ours, when an answer was lost before: another writer's has other bytes.
                if there is not None and not (is_unsure and there == data):
                    raise ObjectExistsError(f"write {name}: it exists") from None
                if there is not None:
                    return
                # Another write or a deletion of that name was going on (`ConditionalRequestConflict`).
            except StorageUnavailableError:
                is_unsure = True
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                return
            self._sleep(FIRST_WAIT_S * 2**attempt)
        raise StorageUnavailableError(
            f"write {name} in {self.url}: others write it again and again"
        )

    def replace(self, name: str, data: bytes) -> None:
        """Write an object whether it is there or not."""
        import obstore

        check_name(name)
        with self._translated("write", name):
            obstore.put(self._again, name, data, mode="overwrite", use_multipart=False)

    def read(self, name: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """Read an object or a part of it."""
        import obstore
        from obstore.exceptions import GenericError

        check_name(name)
        whole = offset == 0 and length is None
        wanted: Any = {"offset": offset} if length is None else (offset, offset + length)
        with self._translated("read", name):
            if length == 0:
                obstore.head(self._again, name)
                return b""
            try:
                options: GetOptions = {} if whole else {"range": wanted}
                return bytes(obstore.get(self._again, name, options=options).bytes())
            except GenericError as error:
                # A part that begins beyond the end.
                if whole or not _BEYOND.search(str(error)):
                    raise
                return b""

    def entries(self, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose name starts with `prefix`, sorted by name."""
        check_prefix(prefix)
        with self._translated("list", prefix or "location"):
            found = sorted(self._listed(prefix), key=lambda one: one.name)
        yield from found

    def delete(self, name: str) -> None:
        """Delete an object; nothing happens when it is absent."""
        import obstore

        check_name(name)
        with self._translated("delete", name), suppress(FileNotFoundError):
            obstore.delete(self._again, name)

    def now(self) -> datetime:
        """The server's clock, as it stamps objects: seen by writing a small one."""
        try:
            return self._server_time()
        except StorageReadOnlyError:
            return self._clock.now()

    def _server_time(self) -> datetime:
        import obstore

        folder = f"{_CLOCK}{os.urandom(8).hex()}"
        probe = f"{folder}/now"
        with self._translated("ask for the time of", "location"):
            obstore.put(self._again, probe, b"", use_multipart=False)
            try:
                # As listings have it: the head of an answer has whole seconds only.
                [[meta]] = obstore.list(self._again, prefix=folder)
                return _instant(meta["last_modified"])
            finally:
                obstore.delete(self._again, probe)

    def sweep(self, *, before: datetime) -> int:
        """Remove what writers that died while they asked for the time left behind; return its bytes."""
        import obstore

        with self._translated("sweep", "location"):
            for batch in obstore.list(self._again):
                for meta in batch:
                    is_ours = meta["path"].startswith(_CLOCK)
                    if is_ours and _instant(meta["last_modified"]) < before:
                        obstore.delete(self._again, meta["path"])
        return 0

    def _listed(self, prefix: str) -> Iterator[StoredObject]:
        import obstore

        # The library lists whole folders; a prefix of ours may end in the middle of a part.
        folder = prefix.rpartition("/")[0] or None
        for batch in obstore.list(self._again, prefix=folder):
            for meta in batch:
                name = meta["path"]
                if name.startswith(prefix) and not name.startswith("."):
                    yield StoredObject(name, meta["size"], _instant(meta["last_modified"]))

    def _content(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except ObjectMissingError:
            return None

    @contextmanager
    def _translated(
        self, verb: str, name: str, *, over: tuple[type[Exception], ...] = ()
    ) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except over:
            raise
        except ReconcilerError:
            raise
        except (BaseError, FileNotFoundError, PermissionError, OSError, ValueError) as error:
            raise self._translate(error, verb, name) from None

    def _translate(self, error: Exception, verb: str, name: str) -> ReconcilerError:
        """What an error of the library means. Its text holds the server's answer: only codes are taken from it."""
        text = str(error)
        code = found[1] if (found := _CODE.search(text)) else ""
        status = (
            next((one for one in found.groups() if one), "")
            if (found := _STATUS.search(text))
            else ""
        )
        message = (
            f"{verb} {name} in {self.url}: {' '.join(filter(None, (status, code))) or _cause(text)}"
        )
        if code == "NoSuchBucket":
            return LocationMissingError(message, hint="make the bucket, or correct the URL")
        if code in _KEYS or (not code and status == "401") or "credential" in text.lower()[:400]:
            return StorageKeyRejectedError(
                message, hint="look at AWS_ACCESS_KEY_ID, or at credentials of the configuration"
            )
        if code in _SKEW:
            return StorageUnavailableError(message, hint="set the clock of this machine")
        if code in _FULL or status == "507":
            return StorageFullError(message, hint="free space or raise the quota, then try again")
        if status == "403" and verb in _WRITES:
            return StorageReadOnlyError(message, hint="allow this key to write below the prefix")
        if status == "403":
            return LocationMissingError(message, hint="allow this key to list and read the bucket")
        if isinstance(error, FileNotFoundError) or status == "404":
            return ObjectMissingError(f"{verb} {name}: it is not there")
        return StorageUnavailableError(message, hint="see whether the object store can be reached")


def _store(
    bucket: Bucket, credentials: Credentials | None, *, retries: int, answer_s: float
) -> S3Store:
    from obstore.store import S3Store

    config: S3Config = {"region": bucket.region or os.environ.get("AWS_REGION") or "us-east-1"}
    if bucket.endpoint:
        config["endpoint"] = bucket.endpoint
    if credentials is not None:
        config["access_key_id"] = credentials.access_key_id
        config["secret_access_key"] = credentials.secret_access_key
        if credentials.session_token:
            config["session_token"] = credentials.session_token
    options: ClientConfig = {
        "connect_timeout": f"{CONNECT_S}s",
        "timeout": f"{answer_s:g}s",
        "allow_http": bucket.endpoint.startswith("http://"),
    }
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options=options,
        retry_config={
            "max_retries": retries,
            "retry_timeout": RETRY_WITHIN,
            "backoff": {
                "init_backoff": timedelta(seconds=FIRST_WAIT_S),
                "max_backoff": timedelta(seconds=15),
                "base": 2,
            },
        },
    )


def _instant(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _cause(text: str) -> str:
    if "timed out" in text or "TimedOut" in text:
        return "no answer in time"
    if "Connect" in text:
        return "cannot connect"
    return "the request failed"
