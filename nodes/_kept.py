"""Addresses of the server that tell what is kept in RAM, and release it."""

from __future__ import annotations

import sys
from typing import Any

from aiohttp import web

from ..patching.features.bank import forget_all, kept_bytes

PATH = "/likeness/kept"


def add_routes() -> None:
    """Adds GET and DELETE of PATH, where a server runs."""
    server: Any = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
    if server is None or not hasattr(server, "routes"):
        return

    @server.routes.get(PATH)
    async def kept(_request: web.Request) -> web.Response:
        return web.json_response({"bytes": kept_bytes()})

    @server.routes.delete(PATH)
    async def release(_request: web.Request) -> web.Response:
        if server.prompt_queue.currently_running:
            return web.json_response({"bytes": kept_bytes(), "busy": True}, status=409)
        forget_all()
        return web.json_response({"bytes": kept_bytes()})
