"""Opens the streams of a command: the WebSocket handshake, what refusals mean, and the probe of a silent stream.

The newest protocol that both sides speak is taken. v5 closes stdin alone; v4, of servers before 1.30, cannot, so that
the command has to be told how much comes. A server that speaks neither answers 403 with an empty body, and
so does RBAC with a Status. Since Kubernetes 1.35 the upgrade needs the verb `create` besides `get`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Sequence
from typing import Any

import websocket

from reconciler.cluster.channel import ExecChannel
from reconciler.cluster.connection import Connection
from reconciler.cluster.liveness import PING_AFTER_S, Pulse, watch_over
from reconciler.cluster.port import (
    ApiError,
    ExecBrokenError,
    ForbiddenError,
    NotFoundError,
    NotServedError,
    UnavailableError,
)
from reconciler.cluster.refusal import MESSAGE_LIMIT, BusyError, decode_status, refusal_of
from reconciler.errors import ReconcilerError

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"
PROTOCOLS = (V5, V4)
_PROBE_PAUSE_S = 2.0
_DENIED_VERB = re.compile(r"cannot (\w+) resource")


def open_channel(
    connection: Connection,
    path: str,
    *,
    query: Sequence[tuple[str, str]],
    stdin: bool,
    subject: str,
    protocols: Sequence[str] = PROTOCOLS,
    ping_after_s: float = PING_AFTER_S,
    timeout_s: float | None = None,
) -> ExecChannel:
    """Upgrade a request to a WebSocket and start to serve it.

    Args:
        connection: to the API server.
        path: of the pod's exec.
        query: command, container, streams.
        stdin: input is sent.
        subject: begins every message.
        protocols: what to ask for, the preferred one first.
        ping_after_s: see `liveness`.
        timeout_s: for the connection and each piece of the handshake, else the connection's own.

    Raises:
        NotFoundError: no such pod or container.
        ForbiddenError: the verb that is missing is named.
        NotServedError: the server speaks none of the protocols.
        ExecBrokenError, UnavailableError: it could not be opened.
    """
    wire = connection.open_socket(subject=subject, timeout_s=timeout_s)
    try:
        web: Any = websocket.WebSocket()
        web.connect(
            connection.url(path, query).replace("http", "ws", 1),
            socket=wire,
            header=connection.headers(),
            subprotocols=list(protocols),
            suppress_origin=True,
            redirect_limit=0,
        )
        if web.subprotocol not in protocols:
            raise _unknown_protocol(subject, connection.cluster)
        watch_over(wire, has_input=stdin, ping_after_s=ping_after_s)
        return ExecChannel(
            wire,
            stdin=stdin,
            half_closes=web.subprotocol == V5,
            subject=subject,
            pulse=Pulse(
                ping_after_s=ping_after_s,
                has_input=stdin,
                probe=_Probe(connection, path, query=query, subject=subject),
                now=time.monotonic(),
            ),
            wait_s=ping_after_s,
        )
    except websocket.WebSocketBadStatusException as error:
        wire.close()
        raise _refused(error, subject, connection.cluster) from error
    except (OSError, websocket.WebSocketException) as error:
        wire.close()
        raise ExecBrokenError(f"{subject}: the handshake broke: {type(error).__name__}") from error
    except BaseException:
        wire.close()
        raise


def _unknown_protocol(subject: str, cluster: str) -> NotServedError:
    return NotServedError(
        f"{subject}: {cluster} speaks neither {V5} nor {V4}",
        hint="see whether a proxy stands between here and the API server",
    )


def _refused(
    error: websocket.WebSocketBadStatusException, subject: str, cluster: str
) -> ReconcilerError:
    status = decode_status(error.resp_body or b"")
    message = str(status.get("message") or "")
    if error.status_code == 403 and not status:
        return _unknown_protocol(subject, cluster)
    if error.status_code == 400 and "is not valid for pod" in message:
        return NotFoundError(f"{subject}: {message[:MESSAGE_LIMIT]}")
    if error.status_code < 400:
        return ExecBrokenError(f"{subject}: the server answered {error.status_code} and no stream")
    headers = {name.title(): text for name, text in (error.resp_headers or {}).items()}
    refused = refusal_of(subject, code=error.status_code, status=status, headers=headers)
    if isinstance(refused, ForbiddenError):
        return ForbiddenError(
            f"{refused.message.rstrip(': ')}: {_missing_verb(message)} on pods/exec is missing",
            hint="allow the verbs get and create on pods/exec, as deploy/rbac.yaml does",
        )
    if isinstance(refused, UnavailableError) and error.status_code != 429:
        return ExecBrokenError(refused.message, hint=refused.hint)
    return refused


def _missing_verb(message: str) -> str:
    """Which verb RBAC misses; for `create`, which is checked later, the server says `forbidden` and no cause."""
    if denied := _DENIED_VERB.search(message):
        return f"the verb {denied.group(1)}"
    return "the verb create" if message.rstrip().endswith("is forbidden:") else "get or create"


class _Probe:
    """Starts another command in the container of a silent stream."""

    def __init__(
        self, connection: Connection, path: str, *, query: Sequence[tuple[str, str]], subject: str
    ) -> None:
        self._connection = connection
        self._path = path
        self._container = [(name, value) for name, value in query if name == "container"]
        self._subject = subject
        self._argv: tuple[str, ...] = ()

    def by(self, argv: Sequence[str]) -> None:
        """Probe by a command that ends with 0 as long as there is something to wait for."""
        self._argv = tuple(argv)

    def __call__(self, within_s: float) -> str:
        """Try until somebody answers; without a command of its own any end of one will do."""
        ends_at = time.monotonic() + within_s
        why = "nobody answers"
        while (left_s := ends_at - time.monotonic()) > 0:
            try:
                code = self._exit_code(left_s)
            except NotFoundError as error:
                why = error.message
                break
            except (ApiError, BusyError):
                return ""  # the question is refused, but somebody answers
            except (ExecBrokenError, UnavailableError) as error:
                why = error.message
                threading.Event().wait(min(_PROBE_PAUSE_S, left_s))
            else:
                return "its command runs no more" if self._argv and code else ""
        return f"the far side is silent, and a second command there does not run: {why}"

    def _exit_code(self, within_s: float) -> int:
        words = [("command", word) for word in self._argv or ("true",)]
        with open_channel(
            self._connection,
            self._path,
            query=[*words, *self._container, ("stdout", "true")],
            stdin=False,
            subject=self._subject,
            timeout_s=within_s,
        ) as session:
            timer = threading.Timer(within_s, session.close)
            timer.start()
            try:
                return session.result().exit_code
            finally:
                timer.cancel()
