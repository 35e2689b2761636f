"""The fixtures of this folder."""

from tests.support.sandbox import http, live_http, live_sandbox, sandbox

__all__ = ["http", "live_http", "live_sandbox", "sandbox"]
