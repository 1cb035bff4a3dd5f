"""A line of text on a node in the graph editor while something runs."""

from __future__ import annotations

from collections.abc import Callable


def text_on(node_id: str | None) -> Callable[[str], None] | None:
    """What shows a line on the node with this id; None without a server, or on a host that has no such text."""
    from server import PromptServer

    server = getattr(PromptServer, "instance", None)
    send = getattr(server, "send_progress_text", None)
    return None if send is None or node_id is None else lambda text: send(text, node_id)
