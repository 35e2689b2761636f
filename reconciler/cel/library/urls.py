"""URLs, by the rules of Go's `net/url` (`ParseRequestURI`, then `Parse`), which are stricter than urllib's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import unquote_plus, unquote_to_bytes

from reconciler.cel.error import Fault
from reconciler.cel.library.table import Table, traversal
from reconciler.cel.values import Foreign, Frame

URLS = Table("urls", since="1.23")
_TEXT_MAX = 8192
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9\-._:~!$&'()*+,;=%@]*", re.ASCII)
_HOST = re.compile(r"[^\s\x00-\x20/?#@\\^`{|}%]*")
_PORT = re.compile(r"(?::[0-9]*)?", re.ASCII)
_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_PATH = re.compile(r"(?:[A-Za-z0-9\-_.~$&+,/:;=@!'()*\[\]]|%[0-9A-Fa-f]{2})*", re.ASCII)
_PATH_BYTES = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~$&+,/:;=@"
)


@dataclass(frozen=True, slots=True)
class URL(Foreign):
    """A URL in its parts; `path` as it was written."""

    cel_type: ClassVar[str] = "kubernetes.URL"
    scheme: str = ""
    host: str = ""
    path: str = ""
    query: str = ""


def read(text: str) -> URL:
    """Read an absolute URI or an absolute path.

    Raises:
        Fault: it is neither.
    """
    _parse(text, is_request=True)
    bare, _, fragment = text.partition("#")
    _check_escapes(fragment)
    return _parse(bare, is_request=False)


def _check_escapes(text: str) -> None:
    if _ESCAPE.search(text):
        raise Fault("this string is no URL")


def _parse(text: str, *, is_request: bool) -> URL:
    is_control = any(char < " " or char == "\x7f" for char in text)
    if not text or len(text) > _TEXT_MAX or is_control:
        raise Fault("this string is no URL")
    found = _SCHEME.match(text)
    scheme = found[1].lower() if found else ""
    rest = text[found.end() :] if found else text
    first = rest.partition("/")[0].partition("?")[0]
    if (not found and ":" in first) or text.startswith(":"):
        raise Fault("this string is no URL")
    rest, _, query = rest.partition("?")
    if not rest.startswith("/"):
        if scheme:
            return URL(scheme=scheme, query=query)
        raise Fault("this string is no absolute URL or path")
    host = ""
    is_host = scheme or (not is_request and not rest.startswith("///"))
    if is_host and rest.startswith("//"):
        authority, slash, path = rest[2:].partition("/")
        host, rest = _host(authority), slash + path
    _check_escapes(rest)
    return URL(scheme, host, rest, query)


def _host(authority: str) -> str:
    user, at, host = authority.rpartition("@")
    if at and (not _USER.fullmatch(user) or _ESCAPE.search(user)):
        raise Fault("this string is no URL")
    if host.startswith("["):
        inside, bracket, port = host[1:].partition("]")
        address = inside.partition("%25")[0]
        is_valid = bool(bracket and _PORT.fullmatch(port) and _HOST.fullmatch(address))
    else:
        _, colon, digits = host.rpartition(":")
        is_port = not colon or _PORT.fullmatch(f":{digits}")
        is_valid = bool(_HOST.fullmatch(host) and is_port)
    if not is_valid:
        raise Fault("this string is no URL")
    return host


@URLS.add("url(string) -> URL")
def _(frame: Frame, text: str) -> URL:
    traversal(frame, len(text))
    return read(text)


@URLS.add("isURL(string) -> bool")
def _(frame: Frame, text: str) -> bool:
    traversal(frame, len(text))
    try:
        _parse(text, is_request=True)
    except Fault:
        return False
    return True


@URLS.add("URL.getScheme() -> string")
def _(frame: Frame, url: URL) -> str:
    return url.scheme


@URLS.add("URL.getHost() -> string")
def _(frame: Frame, url: URL) -> str:
    return url.host


@URLS.add("URL.getHostname() -> string")
def _(frame: Frame, url: URL) -> str:
    if url.host.startswith("["):
        return url.host[1:].partition("]")[0]
    return url.host.rpartition(":")[0] if ":" in url.host else url.host


@URLS.add("URL.getPort() -> string")
def _(frame: Frame, url: URL) -> str:
    rest = url.host.rpartition("]")[2]
    return rest.rpartition(":")[2] if ":" in rest else ""


@URLS.add("URL.getEscapedPath() -> string")
def _(frame: Frame, url: URL) -> str:
    if _PATH.fullmatch(url.path):
        return url.path
    raw = unquote_to_bytes(url.path)
    return "".join(chr(byte) if byte in _PATH_BYTES else f"%{byte:02X}" for byte in raw)


@URLS.add("URL.getQuery() -> map(string, list(string))")
def _(frame: Frame, url: URL) -> dict[str, list[str]]:
    traversal(frame, len(url.query))
    made: dict[str, list[str]] = {}
    for pair in url.query.split("&"):
        if not pair or ";" in pair or _ESCAPE.search(pair):
            continue
        key, _, value = pair.partition("=")
        made.setdefault(unquote_plus(key), []).append(unquote_plus(value))
    return made
