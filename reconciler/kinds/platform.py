"""Location and Cluster: where content is kept, and which clusters there are."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from reconciler.kinds.model import Kind, Model, Planned

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
"""Names of buckets, as S3 has them."""
BUCKET_OPTIONS = frozenset({"endpoint", "region"})


def _url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme in ("gs", "az", "https"):
        raise PydanticCustomError(
            "url",
            "this object store is not supported by this version; use s3://bucket/prefix or file:///path",
        )
    if parts.scheme == "s3":
        return _bucket_url(value)
    if parts.scheme != "file" or parts.netloc or not parts.path.startswith("/"):
        raise PydanticCustomError("url", "expected file:///absolute/path")
    return value


def _bucket_url(value: str) -> str:
    parts = urlsplit(value)
    if "@" in parts.netloc:
        raise PydanticCustomError("url", "keys are never part of a URL")
    unknown = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)} - BUCKET_OPTIONS
    if unknown or not BUCKET.fullmatch(parts.netloc) or parts.fragment:
        raise PydanticCustomError(
            "url", "expected s3://bucket/prefix?endpoint=https://host:port&region=name"
        )
    return value


LocationUrl = Annotated[str, AfterValidator(_url)]


class LocationSpec(Model):
    """Where content is kept."""

    url: LocationUrl
    """`file:///absolute/path`, or `s3://bucket/prefix?endpoint=https://host:port&region=name`."""
    description: Annotated[str, Field(max_length=500)] = ""
    """For people."""
    secret_ref: Planned
    object_lock: Planned
    price_per_gib: Planned


class Location(Kind):
    """Where content is kept: a URL; its keys are made by `reconciler keys init`."""

    platform_only = True
    kind: Literal["Location"]
    """Always `Location`."""
    spec: LocationSpec
    """The place."""


class ClusterSpec(Model):
    """A cluster of the fleet."""

    uid: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """The uid of its kube-system namespace; when given, a daemon connected to another cluster refuses to work."""
    labels: dict[str, str] = Field(default_factory=dict)
    """For `select.clusters`."""
    signing_keys: Planned


class Cluster(Kind):
    """A cluster, by the name that the operator's configuration gives it."""

    platform_only = True
    kind: Literal["Cluster"]
    """Always `Cluster`."""
    spec: ClusterSpec = Field(default_factory=lambda: ClusterSpec.model_validate({}))
    """What is known of it."""
