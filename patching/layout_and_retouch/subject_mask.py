"""The adaptive mask as a run uses it: from the subject's mask in the layout image and the target's attention of the
step before."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F

from ...kernels.adaptive_mask import TORCH, MaskRules, adaptive_mask, resized, thresholded
from ...kernels.heatmaps import mean_heatmap, min_max
from ..features.taps import CrossAttentionTap
from ..host.blocks import Block, Layer
from ..host.family import Family
from ..host.rows import TARGET
from ..host.run import Call

NODE = "AdaptiveMask"
DEFAULT_RULES = MaskRules()


@dataclass(frozen=True, eq=False)
class SubjectMask:
    """subject: bool [1 or images, height, width] over the layout image. tokens, prompt_length: the subject's words in
    the target's prompt, empty for a mask that stays as it is. fixed: [1 or images, height, width] in 0..1, the mask
    without any attention of the target, which also serves until there is one. blocks: whose attention is averaged, in
    the language of `blocks.parse`."""

    subject: torch.Tensor
    fixed: torch.Tensor
    rules: MaskRules = DEFAULT_RULES
    tokens: tuple[int, ...] = ()
    prompt_length: int = 0
    blocks: str = ""
    node: str = NODE

    @property
    def follows(self) -> bool:
        """Whether the mask follows the target from step to step."""
        return bool(self.tokens)

    def check(self, images: int, height: int, width: int) -> None:
        """Raises ValueError in one sentence where the mask does not fit a latent of that size."""
        size = tuple(self.fixed.shape[1:])
        if size not in ((height, width), (8 * height, 8 * width)):
            raise ValueError(
                f"{self.node}: expected a mask of the picture's size, {8 * width} x {8 * height}, got {size[1]} x "
                f"{size[0]}; connect the mask of the layout image that is retouched."
            )
        if len(self.fixed) not in (1, images):
            raise ValueError(
                f"{self.node}: expected 1 mask or {images}, one per picture, got {len(self.fixed)}; connect one per "
                "picture."
            )


@dataclass(eq=False)
class MaskRun:
    """The mask during one run. Nothing here waits for the device."""

    mask: SubjectMask
    size: tuple[int, int]
    device: torch.device
    _maps: dict[float, list[torch.Tensor]] = field(default_factory=dict)
    _made: dict[tuple, torch.Tensor] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self):
        subject = F.interpolate(self.mask.subject[:, None].float(), self.size, mode="area")[:, 0]
        # A subject smaller than a latent pixel still has the pixel that it fills most.
        self._subject = (subject >= subject.amax((1, 2), keepdim=True).clamp(max=0.5)).to(self.device)
        self._fixed = self.mask.fixed.float().to(self.device)

    def tap(self, family: Family, blocks: tuple[Block, ...]) -> CrossAttentionTap:
        return CrossAttentionTap(
            self.mask.node,
            family,
            blocks,
            self,
            role=TARGET,
            conditional=True,
            tokens=self.mask.tokens,
            prompt_length=self.mask.prompt_length,
        )

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        images = len({row.image for row in call.rows if row.role == TARGET})
        # Combined prompts come as one chunk of all pictures each.
        maps = values.sum(-1).unflatten(1, size).unflatten(0, (-1, images)).mean(0)
        with self._lock:
            self._maps.setdefault(call.sigma, []).append(maps)

    def at(self, sigma: float, size: tuple[int, int]) -> torch.Tensor:
        """[1 or images, h * w, 1] at a layer of (height, width): made of the maps of the step before, so that the order
        in which the host asks for rows with and without the prompt does not matter."""
        with self._lock:
            key = (sigma, size)
            if key not in self._made:
                self._forget(sigma)
                self._made[key] = resized(self._at(sigma), size)
            return self._made[key]

    def _at(self, sigma: float) -> torch.Tensor:
        if (sigma, None) not in self._made:
            self._made[sigma, None] = self._step(sigma)
        return self._made[sigma, None]

    def _step(self, sigma: float) -> torch.Tensor:
        before = [s for s in self._maps if s > sigma]
        if not before:
            return self._fixed
        rules = self.mask.rules
        heat = min_max(mean_heatmap(self._maps[min(before)], self.size))
        subject = self._subject.expand(len(heat), -1, -1)
        return adaptive_mask(thresholded(heat, rules.threshold), subject, rules, TORCH)

    def _forget(self, sigma: float) -> None:
        needed = min((s for s in self._maps if s > sigma), default=None)
        for s in [s for s in self._maps if s > sigma and s != needed]:
            del self._maps[s]
        for key in [k for k in self._made if k[0] > sigma]:
            del self._made[key]
