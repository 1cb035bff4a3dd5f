"""Drawings of a run on a node of the graph editor: the kind of each step, curves, and small maps."""

from __future__ import annotations

import base64
import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from comfy_execution.utils import get_executing_context

from .notices import Notices

EVENT = "likeness.live"
"""Name of the message to the editor: {node, kind: steps | curves | map, value, runner}.

runner: the id of the node that the host executes, whose progress is the run's.
"""
_SIDE = 64
"""Pixels of the longer side of a map."""


class Live:
    """The drawing of one run on the node of its notices; silent where no editor listens.

    A map is copied without waiting for the device, and sent by the next one of its name, when it has long arrived.
    """

    def __init__(self, notices: Notices):
        self._node = notices.node_id
        self._server: Any = getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
        self._maps: dict[str, tuple[torch.Tensor, torch.cuda.Event | None]] = {}
        self._curves: dict[str, list[float]] = {}

    @property
    def listening(self) -> bool:
        """True where an editor would show what is sent."""
        return self._node is not None and hasattr(self._server, "send_sync")

    def steps(self, kinds: Iterable[str]) -> None:
        """Shows the kind of each step of the run, in its order; steps of one kind in sequence are one part."""
        self._tell("steps", [[kind, len(list(alike))] for kind, alike in itertools.groupby(kinds)])

    def point(self, values: Mapping[str, float]) -> None:
        """Adds one point to each named curve."""
        for name, value in values.items():
            self._curves.setdefault(name, []).append(value)
        self._tell("curves", {name: list(curve) for name, curve in self._curves.items()})

    def map(self, name: str, values: torch.Tensor) -> None:
        """Takes a map of this step, [images, height, width] in 0..1 of which the first counts; sends the one before."""
        if not self.listening:
            return
        self._send(name)
        with torch.no_grad():
            first = values.detach()[:1, None].float()
            longer = max(first.shape[-2:])
            if longer > _SIDE:
                size = [max(1, round(n * _SIDE / longer)) for n in first.shape[-2:]]
                first = F.interpolate(first, size, mode="area")
            # Without an event, as on other devices than CUDA's, only a copy that waits is sure to have arrived.
            copy = (first[0, 0].clamp(0, 1) * 255).byte().to("cpu", non_blocking=values.is_cuda)
        arrival = torch.cuda.Event() if values.is_cuda else None
        if arrival is not None:
            arrival.record()
        self._maps[name] = (copy, arrival)

    def finish(self) -> None:
        """Sends the maps that still wait."""
        for name in [*self._maps]:
            self._send(name)

    def _send(self, name: str) -> None:
        if name not in self._maps:
            return
        copy, arrival = self._maps.pop(name)
        if arrival is not None:
            arrival.synchronize()
        height, width = copy.shape
        pixels = base64.b64encode(copy.contiguous().numpy().tobytes()).decode()
        self._tell("map", {"name": name, "width": width, "height": height, "pixels": pixels})

    def _tell(self, kind: str, value: Sequence | Mapping) -> None:
        if self.listening:
            server, context = self._server, get_executing_context()
            runner = None if context is None else context.node_id
            message = {"node": self._node, "kind": kind, "value": value, "runner": runner}
            server.send_sync(EVENT, message, server.client_id)
