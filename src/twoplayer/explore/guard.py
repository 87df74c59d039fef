"""What is let through to the page.

The page answers itself and nobody else: a request that another site's page sends (its Origin is another one) is
refused, and so is one for another name than this machine's own while only this machine may look, which is how a foreign
name that is pointed at 127.0.0.1 would come in. Nothing is loaded from elsewhere.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from twoplayer.explore.address import is_own

POLICY = (
    "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'none'; base-uri 'self'; form-action 'self'"
)


class Guard:
    """Middleware in front of the page.

    Args:
        app: the page.
        own: whether only this machine may look.
    """

    def __init__(self, app: Any, *, own: bool) -> None:
        self.app, self.own = app, own

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if refusal := self.refusal(headers.get("host", ""), headers.get("origin")):
            await PlainTextResponse(f"twoplayer explore: {refusal}\n", 403)(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(
                    {
                        "Content-Security-Policy": POLICY,
                        "X-Content-Type-Options": "nosniff",
                        "Referrer-Policy": "same-origin",
                    }
                )
            await send(message)

        await self.app(scope, receive, guarded)

    def refusal(self, host: str, origin: str | None) -> str:
        """Why a request is refused, in words; empty when it is not."""
        try:
            name, origin_host = urlsplit(f"//{host}").hostname or "", urlsplit(origin or f"//{host}").netloc
        except ValueError:
            return "this is no address"
        if self.own and not is_own(name):
            return f"this page is only for this machine, not for {host[:80]}"
        if origin_host != host:
            return "requests from pages of other sites are refused"
        return ""
