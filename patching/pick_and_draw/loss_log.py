"""The losses of a guided run, for the picture of its curves and for the line that the node shows while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from PIL import Image, ImageDraw

_COLOURS = {"appearance": (200, 60, 40), "layout": (30, 90, 200)}
_LEFT, _TOP, _WIDTH, _HEIGHT, _MARGIN = 56, 28, 480, 240, 40


@dataclass
class LossLog:
    """Both losses at every guided step of the latest run; numbers stay on the device until somebody asks.

    show: is given one line per guided step, about the step before, so that nobody waits for the device.
    """

    show: Callable[[str], None] | None = None
    node: str = "UREMDGuidance"
    levels: tuple[float, ...] | None = None
    """Of the latest run; None before the first one."""
    entries: list[tuple[float, dict[str, torch.Tensor]]] = field(default_factory=list)
    _finite: list[torch.Tensor] = field(default_factory=list)
    _warned: bool = False

    def start(self, levels: tuple[float, ...]) -> None:
        """A new run, guided at these noise levels, replaces the one before."""
        self.levels = levels
        self.entries, self._finite, self._warned = [], [], False

    def note(self, sigma: float, appearance: torch.Tensor | None, layout: torch.Tensor | None) -> None:
        """[images] each, of one gradient step."""
        self._look_back()
        named = {"appearance": appearance, "layout": layout}
        self.entries.append((sigma, {name: loss.detach() for name, loss in named.items() if loss is not None}))

    def note_finite(self, finite: torch.Tensor) -> None:
        """bool per image: whether its gradient is a number."""
        self._finite.append(finite.detach())

    def _look_back(self) -> None:
        if self.entries and self.show is not None:
            levels = self.levels or ()
            step = sum(level >= self.entries[-1][0] for level in levels)
            values = (f"{name} {float(loss.mean()):.4f}" for name, loss in self.entries[-1][1].items())
            self.show(f"guided step {step} of {len(levels)}: {', '.join(values)}")
        if self._finite and not self._warned and not bool(self._finite[-1].all()):
            self._warned = True
            logging.warning(
                "%s: a gradient was not a finite number; its step was skipped, and so will be others like it.",
                self.node,
            )

    def finish(self) -> None:
        """After the run: the last step is told, and the numbers leave the device."""
        self._look_back()
        with torch.inference_mode(False), torch.no_grad():
            self.entries = [
                (s, {n: torch.empty(v.shape).copy_(v) for n, v in losses.items()}) for s, losses in self.entries
            ]
        self._finite = []

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(guided step, loss [steps, images]) of the term `name`, over every gradient step at which it acted."""
        found = [
            (i, losses[name].float().cpu().numpy()) for i, (_, losses) in enumerate(self.entries) if name in losses
        ]
        return np.array([i for i, _ in found]), np.stack([v for _, v in found]) if found else np.zeros((0, 0))

    def picture(self, images: int) -> torch.Tensor:
        """[1, height, width, 3] in 0..1: both terms against the gradient step, each on an axis of its own from 0; pale:
        single images.

        images: of the latent that the run made. A run without a guided step gives an empty plot. Raises ValueError
        where no run has been logged, or one of another batch.
        """
        got = {len(values) for _, losses in self.entries for values in losses.values()}
        if self.levels is None or got not in (set(), {images}):
            raise ValueError(
                f"LikenessLossCurves: expected the losses of a run of {images} images, got "
                f"{', '.join(map(str, got)) or 'none'}; connect the output of the sampler that runs the guided model "
                "to latent."
            )
        image = Image.new("RGB", (_LEFT + _WIDTH + _MARGIN + 16, _TOP + _HEIGHT + _MARGIN), "white")
        draw = ImageDraw.Draw(image)
        draw.rectangle([_LEFT, _TOP, _LEFT + _WIDTH, _TOP + _HEIGHT], outline=(190, 190, 190))
        last = max(1, len(self.entries) - 1)
        shown = [name for name in _COLOURS if len(self.curve(name)[0])]
        for place, name in enumerate(shown):
            steps, losses = self.curve(name)
            known = np.isfinite(losses)  # a loss that is no number leaves a gap
            top = max(float(losses[known].max(initial=0)), 1e-12)
            colour, pale = _COLOURS[name], tuple((c + 510) // 3 for c in _COLOURS[name])
            for values, tint, width in (
                *((losses[:, i], pale, 1) for i in range(losses.shape[1])),
                (losses.mean(1), colour, 2),
            ):
                points = [
                    (_LEFT + _WIDTH * s / last, _TOP + _HEIGHT * (1 - v / top))
                    for s, v in zip(steps, values, strict=True)
                    if np.isfinite(v)
                ]
                if len(points) == 1:
                    points.append((points[0][0] + 2, points[0][1]))
                draw.line(points, fill=tint, width=width)
            side = 4 if place == 0 else _LEFT + _WIDTH + 4
            draw.text((side, _TOP - 6), f"{top:.3g}", fill=colour)
            draw.text((side, _TOP + _HEIGHT - 6), "0", fill=colour)
            draw.text((_LEFT + 8 + 110 * place, 8), f"{name} loss", fill=colour)
        if not shown:
            draw.text((_LEFT + _WIDTH // 2 - 50, _TOP + _HEIGHT // 2), "no step was guided", fill="black")
        draw.text((_LEFT, _TOP + _HEIGHT + 8), "1", fill="black")
        draw.text((_LEFT + _WIDTH - 12, _TOP + _HEIGHT + 8), str(len(self.entries)), fill="black")
        draw.text((_LEFT + _WIDTH // 2 - 40, _TOP + _HEIGHT + 8), "gradient step", fill="black")
        return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]
