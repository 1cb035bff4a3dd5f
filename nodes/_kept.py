"""Addresses of the server that tell what is kept in RAM, and release it."""

from __future__ import annotations

import sys
from typing import Any

from ..patching.features.bank import forget_all, kept_bytes

PATH = "/likeness/kept"


def add_routes() -> None:
    """Adds GET and DELETE of PATH, where a server runs."""
    host: Any = sys.modules.get("server")
    server: Any = getattr(getattr(host, "PromptServer", None), "instance", None)
    if server is None or not hasattr(server, "routes"):
        return

    answer = host.web.json_response

    @server.routes.get(PATH)
    async def kept(_request: Any) -> Any:
        return answer({"bytes": kept_bytes()})

    @server.routes.delete(PATH)
    async def release(_request: Any) -> Any:
        queue = server.prompt_queue
        # The queue hands out its next run under the same lock, so none begins before the features are gone.
        with queue.mutex:
            busy = bool(queue.currently_running)
            if not busy:
                forget_all()
        if busy:
            return answer({"bytes": kept_bytes(), "busy": True}, status=409)
        return answer({"bytes": kept_bytes()})
