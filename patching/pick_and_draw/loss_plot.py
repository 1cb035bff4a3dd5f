"""The picture of a guided run's loss curves, as LikenessLossCurves shows it."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw

from .loss_log import LossLog

_COLORS = {"appearance": (200, 60, 40), "layout": (30, 90, 200)}
_LEFT, _TOP, _WIDTH, _HEIGHT, _MARGIN = 56, 28, 480, 240, 40


def plot(log: LossLog, images: int) -> torch.Tensor:
    """Both terms against the gradient step, each on an axis of its own from 0: [1, height, width, 3] in 0..1.

    Bold lines are means of the batch, pale ones single images. images: the batch size of the latent that the run made.
    A run without a guided step gives an empty plot. Raises ValueError for the log of another run.
    """
    log.check(images)
    image = Image.new("RGB", (_LEFT + _WIDTH + _MARGIN + 16, _TOP + _HEIGHT + _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle([_LEFT, _TOP, _LEFT + _WIDTH, _TOP + _HEIGHT], outline=(190, 190, 190))
    last = max(1, len(log.entries) - 1)
    shown = [name for name in _COLORS if len(log.curve(name)[0])]
    for place, name in enumerate(shown):
        steps, losses = log.curve(name)
        top = _draw_curves(draw, _LEFT + _WIDTH * steps / last, losses, _COLORS[name])
        side = 4 if place == 0 else _LEFT + _WIDTH + 4
        draw.text((side, _TOP - 6), f"{top:.3g}", fill=_COLORS[name])
        draw.text((side, _TOP + _HEIGHT - 6), "0", fill=_COLORS[name])
        draw.text((_LEFT + 8 + 110 * place, 8), f"{name} loss", fill=_COLORS[name])
    if not shown:
        draw.text((_LEFT + _WIDTH // 2 - 50, _TOP + _HEIGHT // 2), "no step was guided", fill="black")
    draw.text((_LEFT, _TOP + _HEIGHT + 8), "1", fill="black")
    draw.text((_LEFT + _WIDTH - 12, _TOP + _HEIGHT + 8), str(len(log.entries)), fill="black")
    draw.text((_LEFT + _WIDTH // 2 - 40, _TOP + _HEIGHT + 8), "gradient step", fill="black")
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]


def _draw_curves(draw: ImageDraw.ImageDraw, x: np.ndarray, losses: np.ndarray, color: tuple[int, int, int]) -> float:
    """Draws one term's curves and returns the value at the top of its axis.

    x: pixels from the left, [steps]; losses: [steps, images].
    """
    known = np.isfinite(losses)  # a loss that is not finite leaves a gap
    top = max(float(losses[known].max(initial=0)), 1e-12)
    pale = tuple((c + 510) // 3 for c in color)
    single_images = [(losses[:, i], pale, 1) for i in range(losses.shape[1])]
    for values, tint, width in (*single_images, (_means(losses), color, 2)):
        points = [(place, _TOP + _HEIGHT * (1 - v / top)) for place, v in zip(x, values, strict=True) if np.isfinite(v)]
        if len(points) == 1:
            points.append((points[0][0] + 2, points[0][1]))
        draw.line(points, fill=tint, width=width)
    return top


def _means(losses: np.ndarray) -> np.ndarray:
    """The mean of each step's images, [steps]; not a number where no image has a loss."""
    known = ~np.isnan(losses)
    return np.where(known, losses, 0).sum(1) / np.where(known.any(1), known.sum(1), np.nan)
