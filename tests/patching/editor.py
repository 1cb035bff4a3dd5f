"""A stand-in for the graph editor and for the host that executes nodes."""

from __future__ import annotations

import contextlib
import sys
from types import SimpleNamespace

from comfy_execution.utils import CurrentNodeContext
from likeness.patching.host import notices


class Editor:
    """Keeps every text that reaches a node: (node id, text) in `sent`, the latest of each node in `shown`.

    client_id: of the prompt that runs, whose client alone the texts are for.
    """

    client_id = "editor"

    def __init__(self):
        self.sent: list[tuple[str, str]] = []

    def send_progress_text(self, text: str, node_id: str, sid: str | None) -> None:
        assert sid == self.client_id
        self.sent.append((node_id, text))

    @property
    def shown(self) -> dict[str, str]:
        return dict(self.sent)


def open_editor(monkeypatch) -> Editor:
    """An editor that shows nothing yet, as after the server has started."""
    editor = Editor()
    monkeypatch.setattr(notices, "_latest", {})
    server = SimpleNamespace(PromptServer=SimpleNamespace(instance=editor))
    monkeypatch.setitem(sys.modules, "server", server)
    return editor


def executing(node_id: str, prompt: str = "prompt", index: int = 0) -> contextlib.AbstractContextManager:
    """The host's context while it executes a node."""
    return CurrentNodeContext(prompt, node_id, index)
