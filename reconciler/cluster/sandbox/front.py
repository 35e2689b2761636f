"""The HTTP face: authentication, paths, content types, lists, watches and discovery, as an ASGI application."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from reconciler.cluster.sandbox.api import Api
from reconciler.cluster.sandbox.catalog import Row
from reconciler.cluster.sandbox.exec import Exec
from reconciler.cluster.sandbox.faults import Fault, Faults
from reconciler.cluster.sandbox.fields import Write
from reconciler.cluster.sandbox.pods import Pods
from reconciler.cluster.sandbox.state import Event, Match, encode, selector
from reconciler.cluster.sandbox.status import StatusError, not_built
from reconciler.objects import Manifest

_BOOKMARK_S = 5.0
_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_STYLES = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
}
_ONE = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_MANY = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
_NOWHERE = "the server could not find the requested resource"
_TRUE = ("true", "1")
Denied = Callable[[str, Row, str, str], str | None]


@dataclass(frozen=True, slots=True)
class _Ask:
    """What a request on a resource asks for."""

    row: Row
    namespace: str
    name: str
    sub: str
    verb: str
    query: dict[str, str]

    @property
    def match(self) -> Match | None:
        return selector(self.query.get("labelSelector", ""), self.query.get("fieldSelector", ""))


class Front:
    """One sandbox's HTTP application."""

    def __init__(self, api: Api, pods: Pods, faults: Faults, *, token: str, denied: Denied) -> None:
        self.api, self.pods, self.faults, self.denied = api, pods, faults, denied
        self._token = token
        self._streams: set[asyncio.Queue[Event | None]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or WebSocket."""
        first, slash, rest = scope["path"][1:].partition("/")
        known = bool(slash) and hmac.compare_digest(first.encode(), self._token.encode())
        if known:  # kubectl sends no bearer token over plain HTTP, so its server address carries it
            scope = {**scope, "path": f"/{rest}"}
        headers = HTTPConnection(scope).headers
        url = f"{scope['path']}?{scope['query_string'].decode()}"
        faults = self.faults.take(scope.get("method", "GET"), url)
        transport = receive.__self__.transport  # type: ignore[attr-defined]  # uvicorn's, for faults
        try:
            if "delay" in faults:
                await asyncio.sleep(faults["delay"].value)
            if "drop" in faults:
                transport.abort()
                return None
            if fault := faults.get("answer"):
                raise StatusError(int(fault.value), "as a test wants it")
            bearer = headers.get("authorization", "").encode()
            if not known and not hmac.compare_digest(bearer, b"Bearer " + self._token.encode()):
                raise StatusError(401, "Unauthorized")
            if "impersonate-user" in headers:
                raise not_built("impersonation")
            if scope["type"] == "websocket":
                return await self._exec(WebSocket(scope, receive, send), faults)
            response = await self._answer(Request(scope, receive), faults)
        except (KeyError, TypeError, ValueError, AttributeError, StatusError) as error:
            if not isinstance(error, StatusError):
                error = StatusError(400, f"the request is malformed: {error!r}"[:256])
            response = _json(error.body, error.code)
            if fault and fault.retry_after_s is not None:
                response.headers["Retry-After"] = str(fault.retry_after_s)
            if scope["type"] == "websocket":
                return await WebSocket(scope, receive, send).send_denial_response(response)
        if "cut" not in faults:
            return await response(scope, receive, send)
        await send({"type": "http.response.start", "status": 200, "headers": response.raw_headers})
        part = bytes(response.body[: int(faults["cut"].value)])
        await send({"type": "http.response.body", "body": part, "more_body": True})
        transport.close()
        return None

    def close(self) -> None:
        """End every watch."""
        for queue in self._streams:
            queue.put_nowait(None)

    async def _answer(self, request: Request, faults: dict[str, Fault]) -> Response:
        path, accept = request.url.path.strip("/").split("/"), request.headers.get("accept", "")
        start = {"api": 1, "apis": 2}.get(path[0], 0)
        if not start or len(path) <= start + 1:
            return self._discovery(path, accept.replace(" ", ""))
        group, version = path[1] if start == 2 else "", path[start]
        rest, query = path[start + 1 :], dict(request.query_params)
        ask = self._ask(request.method, query, group, version, rest)
        if ask.sub == "log":
            text = self.pods.log(ask.namespace, ask.name, ask.query.get("container", ""))
            return Response(text, media_type="text/plain")
        if ask.verb == "watch":
            lines = self._watch(ask, faults.get("expire-watch"))
            return StreamingResponse(lines, media_type="application/json")
        if ask.verb == "list":
            return self._list(ask)
        if ask.verb == "get":
            return _json(self.api.find(ask.row, ask.namespace, ask.name).text(ask.row.api_version))
        return self._change(ask, request, await request.body())

    def _discovery(self, path: list[str], accept: str) -> Response:
        catalog = self.api.catalog
        about = catalog.profile
        is_new = "g=apidiscovery.k8s.io;v=v2;" in accept and about.aggregated_discovery
        match path:
            case ["api" | "apis" as root] if is_new:
                return _json(catalog.aggregated(core=root == "api"), kind=_AGGREGATED)
            case ["api"]:
                return _json({"kind": "APIVersions", "versions": ["v1"]})
            case ["apis"]:
                return _json(catalog.groups())
            case ["api", version]:
                return _json(catalog.resources("", version))
            case ["apis", group, version]:
                return _json(catalog.resources(group, version))
            case ["version"]:
                words = {"major": about.major, "minor": about.minor}
                return _json(words | {"gitVersion": about.git_version, "platform": "linux/amd64"})
        raise StatusError(404, _NOWHERE)

    def _ask(
        self, method: str, query: dict[str, str], group: str, version: str, rest: list[str]
    ) -> _Ask:
        """Read a resource's path, or refuse it."""
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
            namespace, rest = rest[1], rest[2:]
        row = self.api.catalog.row(group, version, rest[0])
        name, sub = (*rest[1:], "", "")[:2]
        verb = "create" if sub and method == "POST" else (_ONE if name else _MANY).get(method, "")
        if verb == "list" and query.get("watch") in _TRUE:
            verb = "watch"
        if why := self.denied(verb, row, namespace, sub):
            raise StatusError(403, f"{row.plural} is forbidden: {why}", kind=row.plural)
        if sub and sub not in row.subresources:
            raise StatusError(404, _NOWHERE)
        if verb == "deletecollection" or (sub and sub not in ("status", "log")):
            raise not_built(f"{verb} {row.plural}/{sub}")
        homeless = row.namespaced and not namespace and verb not in ("list", "watch")
        if not verb or homeless or (verb not in row.verbs and not sub):
            message = "the server does not allow this method on the requested resource"
            raise StatusError(405, message)
        return _Ask(row, namespace, name, sub, verb, query)

    def _change(self, ask: _Ask, request: Request, raw: bytes) -> Response:
        api, row, query, headers = self.api, ask.row, ask.query, request.headers
        agent = headers.get("user-agent", "unknown").partition("/")[0]
        how = Write(query.get("fieldManager") or agent, ask.sub, query.get("dryRun") == "All")
        if ask.verb == "delete":
            body = msgspec.json.decode(raw or b"{}")
            if "gracePeriodSeconds" in query:
                body["gracePeriodSeconds"] = int(query["gracePeriodSeconds"])
            body |= {k: query[k] for k in ("propagationPolicy", "dryRun") if k in query}
            return _json(api.delete(row, ask.namespace, ask.name, body))
        kind = headers.get("content-type", "application/json").partition(";")[0]
        style = _STYLES.get(kind, "")
        if (not style) if ask.verb == "patch" else kind != "application/json":
            raise StatusError(415, f"the body of the request was in an unknown format: {kind}")
        body = msgspec.json.decode(raw)
        if ask.verb == "patch":
            if style == "apply" and "fieldManager" not in query:
                raise StatusError(400, "fieldManager is required for apply patch")
            manifest, created = api.patch(row, body, ask.namespace, ask.name, style=style, how=how)
            return _json(manifest, 201 if created else 200)
        if ask.verb == "update":
            return _json(api.update(row, body, ask.namespace, ask.name, how))
        if row.kind == "SelfSubjectAccessReview":
            return _json(self._review(body), 201)
        if "list" not in row.verbs:
            raise not_built(f"create {row.plural}")
        return _json(api.create(row, body, ask.namespace, how), 201)

    def _review(self, body: Manifest) -> Manifest:
        asked = body["spec"].get("resourceAttributes") or {}
        row = self.api.catalog.by_bucket.get((asked.get("group", ""), asked.get("resource", "")))
        verb, place, sub = (asked.get(k, "") for k in ("verb", "namespace", "subresource"))
        return body | {"status": {"allowed": not (row and self.denied(verb, row, place, sub))}}

    def _list(self, ask: _Ask) -> Response:
        row, match, limit = ask.row, ask.match, int(ask.query.get("limit") or 0)
        entries, version, following, remaining = self.api.state.page(
            row.bucket, ask.namespace, match, limit=limit, token=ask.query.get("continue", "")
        )
        metadata: Manifest = {"resourceVersion": str(version)}
        if following:
            metadata["continue"] = following
            metadata |= {} if match else {"remainingItemCount": remaining}
        about = {"kind": f"{row.kind}List", "apiVersion": row.api_version, "metadata": metadata}
        items = b",".join([entry.text(row.api_version) for entry in entries])
        return _json(encode(about)[:-1] + b',"items":[' + items + b"]}")

    async def _watch(self, ask: _Ask, expires: Fault | None) -> AsyncIterator[bytes]:
        state, loop = self.api.state, asyncio.get_running_loop()
        row, namespace, query, match = ask.row, ask.namespace, ask.query, ask.match or bool
        deadline = loop.time() + float(query.get("timeoutSeconds") or 1800)
        since = int(query.get("resourceVersion") or 0)
        queue: asyncio.Queue[Event | None] = asyncio.Queue()
        initial: list[bytes] = []
        left = expires.value if expires else float("inf")

        def hear(event: Event) -> None:
            if event.entry.bucket == row.bucket and namespace in ("", event.entry.key[0]):
                queue.put_nowait(event)

        if since == 0:
            entries = state.select(row.bucket, namespace, match)
            initial = [_line("ADDED", e.text(row.api_version)) for e in entries]
            if query.get("sendInitialEvents") == "true":
                initial.append(self._bookmark(row, {"k8s.io/initial-events-end": "true"}))
        elif since < state.oldest:
            left = 0
        for event in state.log if since and left else ():
            if event.version > since:
                hear(event)
        state.listeners.append(hear)
        self._streams.add(queue)
        try:
            for line in initial:
                yield line
            while left > 0:
                try:
                    wait_s = min(_BOOKMARK_S, max(0.0, deadline - loop.time()))
                    heard = await asyncio.wait_for(queue.get(), wait_s)
                except TimeoutError:
                    if query.get("allowWatchBookmarks") in _TRUE:
                        yield self._bookmark(row, {})
                    if loop.time() >= deadline:
                        return
                    continue
                if heard is None:
                    return
                if word := heard.seen_by(match):
                    yield _line(word, heard.entry.text(row.api_version))
                    left -= 1
            yield _line("ERROR", encode(StatusError(410, "too old resource version").body))
        finally:
            state.listeners.remove(hear)
            self._streams.discard(queue)

    def _bookmark(self, row: Row, notes: dict[str, str]) -> bytes:
        metadata = {"resourceVersion": str(self.api.state.version), "annotations": notes}
        body = {"kind": row.kind, "apiVersion": row.api_version, "metadata": metadata}
        return _line("BOOKMARK", encode(body))

    async def _exec(self, socket: WebSocket, faults: dict[str, Fault]) -> None:
        match socket.url.path.strip("/").split("/"):
            case ["api", "v1", "namespaces", namespace, "pods", pod, "exec"]:
                row = self.api.row("pods")
                if why := self.denied("get", row, namespace, "exec"):
                    raise StatusError(403, f'pods "{pod}" is forbidden: {why}')
                if self.denied(
                    "create", row, namespace, "exec"
                ):  # a real server gives no cause here
                    raise StatusError(403, f'pods "{pod}" is forbidden: ')
                await Exec(self.pods, socket, faults).run(self.api.find(row, namespace, pod))
            case _:
                raise not_built("WebSocket on this path")


def _json(body: Any, code: int = 200, *, kind: str = "application/json") -> Response:
    raw = body if isinstance(body, bytes) else encode(body)
    return Response(raw, code, headers={"content-type": kind})


def _line(word: str, text: bytes) -> bytes:
    return b'{"type":"%b","object":%b}\n' % (word.encode(), text)
