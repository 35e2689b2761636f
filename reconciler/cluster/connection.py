"""One connection pool to an API server: authentication, TLS, time-outs, repeats.

Configuration, credentials (kubeconfig, in-cluster, exec plugins) and TLS are those of the official
`kubernetes` client; requests go straight over its urllib3 pool and bodies are plain JSON, because typed
models cost three to six times as much. Credentials are asked for at every request, so that a plugin or
a mounted token can refresh them.

Reads are repeated after 429 and 5xx, at most `ATTEMPTS` times in all, waiting as long as Retry-After says or
twice as long each time. Writes never are. A stream that falls silent ends by the read time-out.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec
import urllib3
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
    SSLError,
)

from reconciler.cluster.linestream import LineStream
from reconciler.cluster.port import NotServedError, UnauthorizedError, UnavailableError
from reconciler.cluster.refusal import BusyError, decode_status, refusal_of

ATTEMPTS = 5
FIRST_WAIT_S = 0.25
LONGEST_WAIT_S = 30.0
"""A server that asks for more patience than this is reported instead of waited for."""
ANSWER_LIMIT_BYTES = 1 << 30
"""An answer beyond this is refused: a page of 500 of the largest objects stays below."""
SLOW_FACTOR = 10
"""A whole answer may take this many time-outs, while each piece of it has one."""
USER_AGENT = "backup-reconciler"
_PIECE_BYTES = 1 << 20

Query = Sequence[tuple[str, str]]
T = TypeVar("T")


@dataclass(frozen=True)
class Connection:
    """Requests to one API server. `configuration` is a loaded `kubernetes.client.Configuration`."""

    cluster: str
    configuration: Any
    timeout_s: float = 30.0
    sleep: Callable[[float], None] = time.sleep
    _client: Any = field(init=False)
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        from kubernetes.client import ApiClient

        self.configuration.keep_alive = True
        self.configuration.connection_pool_maxsize = 32
        object.__setattr__(self, "_client", ApiClient(self.configuration))

    @property
    def pool(self) -> urllib3.PoolManager:
        """The one connection pool."""
        pool: urllib3.PoolManager = self._client.rest_client.pool_manager
        return pool

    def close(self) -> None:
        """Close the idle connections."""
        self.pool.clear()

    def read(
        self,
        path: str,
        *,
        subject: str,
        query: Query = (),
        accept: str = "application/json",
        attempts: int = ATTEMPTS,
    ) -> Any:
        """GET a document, repeating after 429 and 5xx."""
        body = self.text(path, subject=subject, query=query, accept=accept, attempts=attempts)
        return self.decoded(body, subject)

    def text(
        self,
        path: str,
        *,
        subject: str,
        query: Query = (),
        accept: str = "application/json",
        attempts: int = ATTEMPTS,
    ) -> bytes:
        """As `read`, for a caller that decodes the document."""
        for attempt in range(1, attempts + 1):
            try:
                answer = self._open("GET", path, subject=subject, query=query, accept=accept)
                return self._body(answer, subject)
            except BusyError as error:
                wait_s = max(error.retry_after_s or 0.0, FIRST_WAIT_S * 2 ** (attempt - 1))
                if attempt == attempts or wait_s > LONGEST_WAIT_S:
                    raise
            self.sleep(wait_s)
        raise AssertionError("the last attempt returns or raises")

    def write(
        self,
        method: str,
        path: str,
        *,
        subject: str,
        body: bytes,
        query: Query = (),
        content_type: str = "application/json",
    ) -> Any:
        """Send a document once and return the answer."""
        answer = self._open(
            method, path, subject=subject, query=query, body=body, content_type=content_type
        )
        return self.decoded(self._body(answer, subject), subject)

    def lines(
        self, path: str, *, subject: str, query: Query, silence_s: float, longest_s: float
    ) -> LineStream:
        """GET a stream of lines; it must not be silent for `silence_s`."""
        answer = self._open("GET", path, subject=subject, query=query, read_timeout_s=silence_s)
        return LineStream(
            answer,
            subject=subject,
            longest_s=longest_s,
            line_bytes_max=ANSWER_LIMIT_BYTES,
            broken=lambda error: self._broken(error, subject, timeout_s=silence_s),
        )

    def decoded(self, body: bytes, subject: str, form: type[T] = Any) -> T:  # type: ignore[assignment]
        """Decode a document.

        Raises:
            UnavailableError: it is none.
        """
        try:
            return msgspec.json.decode(body, type=form)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UnavailableError(
                f"{subject}: {self.cluster} answered without the JSON document that was asked for",
                hint="something between here and the API server may have answered for it",
            ) from error

    def headers(self) -> dict[str, str]:
        """Ask the configuration for the credentials of this moment."""
        headers = {"User-Agent": USER_AGENT}
        with self._lock:
            try:
                settings = self.configuration.auth_settings()
            except Exception as error:
                raise UnauthorizedError(
                    f"refresh credentials of {self.cluster}: {type(error).__name__}",
                    hint="log in again, or see the exec plugin of this context",
                ) from error
        for setting in settings.values():
            if setting["in"] == "header" and setting["value"]:
                headers[setting["key"]] = setting["value"].strip()
        return headers

    def url(self, path: str, query: Query = ()) -> str:
        """The address of a path; the server's own may have a path too."""
        return (
            str(self.configuration.host).rstrip("/")
            + path
            + (f"?{urlencode(query)}" if query else "")
        )

    def open_socket(self, *, subject: str, timeout_s: float | None = None) -> socket.socket:
        """Connect a socket of its own to the server, through the same proxy and TLS as the pool."""
        timeout_s = timeout_s or self.timeout_s
        host = urlsplit(self.configuration.host)
        port = host.port or (443 if host.scheme == "https" else 80)
        assert host.hostname, "a kubeconfig without a host was refused before"
        try:
            plain = self._dial(host.hostname, port, timeout_s)
            try:
                if host.scheme != "https":
                    return plain
                name = self.configuration.tls_server_name or host.hostname
                return self._tls_context().wrap_socket(plain, server_hostname=name)
            except BaseException:
                plain.close()
                raise
        except (OSError, http.client.HTTPException) as error:
            raise self._broken(error, subject, timeout_s=timeout_s) from error

    def _dial(self, host: str, port: int, timeout_s: float) -> socket.socket:
        from kubernetes.client.rest import should_bypass_proxies

        proxy = self.configuration.proxy
        no_proxy = self.configuration.no_proxy or ""
        if not proxy or should_bypass_proxies(self.configuration.host, no_proxy):
            dialed = socket.create_connection((host, port), timeout=timeout_s)
        elif urlsplit(proxy).scheme != "http":
            raise NotServedError(
                f"run a command in {self.cluster}: not supported by this version: commands through "
                f"a {urlsplit(proxy).scheme} proxy",
                hint="use an http proxy",
            )
        else:
            at = urlsplit(proxy)
            tunnel = http.client.HTTPConnection(at.hostname or "", at.port or 80, timeout=timeout_s)
            tunnel.set_tunnel(host, port, headers=dict(self.configuration.proxy_headers or {}))
            tunnel.connect()
            dialed = tunnel.sock
        dialed.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return dialed

    def _tls_context(self) -> ssl.SSLContext:
        settings = self.configuration
        context = ssl.create_default_context(
            cafile=settings.ssl_ca_cert or None,
            cadata=getattr(settings, "ca_cert_data", None) or None,
        )
        if settings.assert_hostname is False or not settings.verify_ssl:
            context.check_hostname = False
        if not settings.verify_ssl:
            context.verify_mode = ssl.CERT_NONE
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file or None)
        return context

    def _open(
        self,
        method: str,
        path: str,
        *,
        subject: str,
        query: Query = (),
        body: bytes | None = None,
        content_type: str = "",
        accept: str = "application/json",
        read_timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        headers = {**self.headers(), "Accept": accept}
        if body is not None:
            headers["Content-Type"] = content_type
        timeout_s = read_timeout_s or self.timeout_s
        try:
            answer = self.pool.request(
                method,
                self.url(path, query),
                body=body,
                headers=headers,
                timeout=urllib3.Timeout(connect=self.timeout_s, read=timeout_s),
                retries=False,
                preload_content=False,
            )
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise self._broken(error, subject, timeout_s=timeout_s) from error
        if 200 <= answer.status < 300:
            return answer
        status = decode_status(self._body(answer, subject))
        raise refusal_of(subject, code=answer.status, status=status, headers=answer.headers)

    def _body(self, answer: urllib3.BaseHTTPResponse, subject: str) -> bytes:
        started = time.monotonic()
        pieces: list[bytes] = []
        size = 0
        whole = False
        try:
            while piece := answer.read1(_PIECE_BYTES):
                pieces.append(piece)
                size += len(piece)
                if size > ANSWER_LIMIT_BYTES:
                    raise UnavailableError(f"{subject}: the answer is larger than 1 GiB")
                if time.monotonic() - started > self.timeout_s * SLOW_FACTOR:
                    raise UnavailableError(f"{subject}: {self.cluster} is too slow to answer")
            whole = True
        except (HTTPError, OSError, http.client.HTTPException) as error:
            raise self._broken(error, subject, timeout_s=self.timeout_s) from error
        finally:
            if whole:
                answer.release_conn()
            else:
                answer.close()
        return b"".join(pieces)

    def _broken(self, error: Exception, subject: str, *, timeout_s: float) -> UnavailableError:
        return UnavailableError(
            f"{subject}: {self.cluster}: {_cause(error, timeout_s)}",
            hint="see whether the API server can be reached from here",
        )


def _cause(error: Exception, timeout_s: float) -> str:
    match error:
        case NewConnectionError():
            inner = error.__cause__
            return f"cannot connect: {getattr(inner, 'strerror', None) or 'no route to it'}"
        case ConnectTimeoutError() | ReadTimeoutError() | TimeoutError():
            return f"no answer for {timeout_s:g} s"
        case SSLError() | ssl.SSLError():
            return f"TLS failed: {str(error)[:200]}"
        case IncompleteRead() | ProtocolError():
            return "the connection broke while its answer was read"
        case OSError() if error.strerror:
            return error.strerror
    return f"the connection broke ({type(error).__name__})"
