"""The losses of a guided run: one line per step while it runs, and their curves afterwards."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from ..features.host_memory import HostMemory
from ..host.live import Live
from ..host.notices import Notices
from .settings import NODE

_VISIBLE = 1e-3
"""Shares of the latent's norm below which no guided step of a run shows in its picture."""


@dataclass
class LossLog:
    """Both losses at every gradient step of the latest run.

    notices: show one line per guided step, a step late, when its numbers have long arrived in RAM. levels: the run's
    guided noise levels, None before the first run. entries: (noise level, {term: losses [images]}) of each gradient
    step.
    """

    notices: Notices = field(default_factory=lambda: Notices(NODE), compare=False)
    levels: tuple[float, ...] | None = None
    entries: list[tuple[float, dict[str, torch.Tensor]]] = field(default_factory=list)
    _images: int = 0
    _finite: list[torch.Tensor] = field(default_factory=list)
    _shifts: list[torch.Tensor] = field(default_factory=list)
    _memory: HostMemory = field(default_factory=HostMemory, compare=False)
    _warned: bool = False
    _live: Live | None = None

    def start(self, levels: tuple[float, ...], images: int = 0, live: Live | None = None) -> None:
        """Begins a run of `images` that is guided at these noise levels, and forgets the one before.

        live: draws the run on the node.
        """
        self.levels, self._images, self._live = levels, images, live
        self.entries, self._finite, self._shifts, self._warned = [], [], [], False
        self._memory = HostMemory()

    def note(
        self,
        sigma: float,
        appearance: torch.Tensor | None,
        layout: torch.Tensor | None,
        images: tuple[int, ...] | None = None,
    ) -> None:
        """Adds the losses of one gradient step, [images] each, None for a term that does not act.

        images: those of the step, by default all. Steps on different images at one noise level become one entry.
        """
        named = {"appearance": appearance, "layout": layout}
        found = {name: loss.detach() for name, loss in named.items() if loss is not None}
        if images is not None and images != tuple(range(self._images)):
            found = {name: self._scattered(loss, images) for name, loss in found.items()}
            last = self.entries[-1] if self.entries else (None, {})
            if last[0] == sigma and last[1]:
                kept = {name: self._memory.copy_of(loss) for name, loss in found.items()}
                self._memory.wait()
                if next(iter(last[1].values()))[images[-1]].isnan():
                    for name, loss in kept.items():
                        last[1][name] = torch.where(loss.isnan(), last[1][name], loss)
                    return
        self._report()
        self.entries.append((sigma, {name: self._memory.copy_of(loss) for name, loss in found.items()}))

    def _scattered(self, loss: torch.Tensor, images: tuple[int, ...]) -> torch.Tensor:
        """The losses of some images, [images of the run], not a number for the others."""
        whole = loss.new_full((self._images,), math.nan)
        for image, one in zip(images, loss, strict=True):
            whole[image] = one
        return whole

    def note_shift(self, shift: torch.Tensor, latent: torch.Tensor) -> None:
        """Adds a guided step's change of the latents [images, channels, height, width]."""
        self._shifts.append((shift.flatten(1).norm(dim=1) / latent.flatten(1).norm(dim=1)).max())

    @property
    def draws(self) -> bool:
        """True where an editor would show maps."""
        return self._live is not None and self._live.listening

    def note_maps(self, salient: torch.Tensor | None, heat: torch.Tensor | None) -> None:
        """Takes two maps of this step, [images, height, width]; None for one that there is not.

        salient: bool, the area of the generated subject. heat: its words' attention in 0..1.
        """
        for name, values in (("generated subject", salient), ("attention to the word", heat)):
            if self._live is not None and values is not None:
                self._live.map(name, values)

    def note_finite(self, finite: torch.Tensor) -> None:
        """Adds one flag per image, True for a finite gradient; bool of any shape."""
        self._finite.append(self._memory.copy_of(finite.detach()))

    def _report(self) -> None:
        """Shows the latest entry, and warns once of a gradient that was not finite."""
        self._memory.wait()
        if self.entries and self.notices.node_id is not None:
            levels = self.levels or ()
            step = sum(level >= self.entries[-1][0] for level in levels)
            values = {name: float(loss.nanmean()) for name, loss in self.entries[-1][1].items()}
            said = ", ".join(f"{name} {value:.4f}" for name, value in values.items())
            self.notices.show(f"guided step {step} of {len(levels)}: {said}")
            if self._live is not None:
                self._live.point(values)
        if self._finite and not self._warned and not bool(self._finite[-1].all()):
            self._warned = True
            self.notices.tell(
                "a gradient was not finite, so its step was skipped; later ones are skipped without a warning."
            )

    def finish(self) -> None:
        """Ends the run: shows the last step, and moves the numbers out of pinned memory."""
        self._report()
        if self._live is not None:
            self._live.finish()
            self._live = None
        self._check_shifts()
        with torch.inference_mode(False), torch.no_grad():
            self.entries = [
                (s, {n: torch.empty(v.shape).copy_(v) for n, v in losses.items()}) for s, losses in self.entries
            ]
        self._finite, self._shifts, self._memory = [], [], HostMemory()

    def _check_shifts(self) -> None:
        """Warns of a run whose guidance has moved nothing visibly."""
        largest = float(torch.stack(self._shifts).max()) if self._shifts else math.inf
        if largest < _VISIBLE:
            self.notices.tell(
                f"expected steps that change the picture, got none longer than {largest:.1g} of the latent's norm; "
                "raise step_size, to 20 or more where step is raw."
            )

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The gradient steps at which a term acted, [steps], and its losses there, [steps, images]."""
        found = [
            (i, losses[name].float().cpu().numpy()) for i, (_, losses) in enumerate(self.entries) if name in losses
        ]
        return np.array([i for i, _ in found]), np.stack([v for _, v in found]) if found else np.zeros((0, 0))

    def check(self, images: int) -> None:
        """Raises ValueError where no run has been logged, or one of another batch size."""
        got = {len(values) for _, losses in self.entries for values in losses.values()}
        if self.levels is None or got not in (set(), {images}):
            raise ValueError(
                f"Loss Curves: expected the losses of a run of {images} images, got "
                f"{', '.join(map(str, got)) or 'none'}; connect the output of the sampler that runs the guided model "
                "to latent."
            )
