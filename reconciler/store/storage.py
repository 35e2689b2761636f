"""Which adapter a location's URL asks for."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from reconciler.errors import UsageError
from reconciler.store.directory import DirectoryStorage
from reconciler.store.port import Storage
from reconciler.store.s3 import Bucket, Credentials, S3Storage


@runtime_checkable
class Sweepable(Protocol):
    """Storage in which writers that died may leave temporary files behind."""

    def sweep(self, *, before: datetime) -> int:
        """Remove leftovers last touched before an instant; return their bytes."""
        ...


def open_storage(
    url: str, *, create: bool = False, credentials: Credentials | None = None
) -> Storage:
    """Choose the adapter for a URL.

    Args:
        url: `file:///path` or `s3://bucket/prefix`.
        create: Make a directory that is absent (`keys init` does). Buckets are made by their owners.
        credentials: The access key of a bucket; what the environment says by default.

    Raises:
        UsageError: the URL's scheme is not supported by this version, or it is not whole.
        LocationMissingError: the place cannot be made.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        return S3Storage(Bucket.parse(url), credentials=credentials)
    if parts.scheme != "file":
        raise UsageError(
            f"open location {_without_credentials(url)}: scheme {parts.scheme!r} is not supported by this version",
            hint="use file:///path/to/a/directory, or s3://bucket/prefix",
        )
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise UsageError(
            f"open location {_without_credentials(url)}: a file URL needs an absolute path",
            hint="write file:///path/to/a/directory, with three slashes",
        )
    return DirectoryStorage(Path(unquote(parts.path)), create=create)


def _without_credentials(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url)
