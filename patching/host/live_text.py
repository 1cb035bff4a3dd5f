"""Shows a line of text on a node in the graph editor during execution."""

from __future__ import annotations

from collections.abc import Callable


def text_on(node_id: str | None) -> Callable[[str], None] | None:
    """A function that shows a line on the node with this id; None if server or host cannot show text."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    send = getattr(server, "send_progress_text", None)
    return None if send is None or node_id is None else lambda text: send(text, node_id)
