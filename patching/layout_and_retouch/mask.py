"""The adaptive mask: made from the widgets of AdaptiveMask, and updated at every step of a run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import mean_heatmap, min_max, overlay
from ...kernels.layout_and_retouch import MaskRules, adaptive_mask, resized, thresholded
from ...kernels.morphology import SCIPY, TORCH
from ..features.host_memory import sent
from ..features.taps import CrossAttentionTap
from ..host.blocks import Block, Layer
from ..host.checks import check_count
from ..host.family import Family
from ..host.live import Live
from ..host.notices import Notices
from ..host.previews import captioned
from ..host.rows import TARGET
from ..host.run import Call
from ..host.words import find_word, same_text

if TYPE_CHECKING:
    from comfy.sd import CLIP

NODE = "Adaptive Mask"
PER_STEP, RECORDED = "per_step", "recorded"
LATENT, PICTURE = "latent", "picture"
"""The pixels in which the mask of a step is made: latent ones, or the picture's as in the paper."""

DEFAULT_RULES = MaskRules()


@dataclass(frozen=True, eq=False)
class SubjectMask:
    """The mask that goes from AdaptiveMask to MultiSourceAttnSwap.

    subject: bool [1 or images, height, width] over the layout image. fixed: fp32 of the same shape in 0..1, the mask
    used until the target's attention is known. tokens, prompt_length: the subject's words in the target's prompt, empty
    for a mask that stays fixed. blocks: whose attention is averaged, in the language of `blocks.parse`. prompt: the
    features of the text that has these words, [1, tokens, width]. resolution: LATENT or PICTURE.
    """

    subject: torch.Tensor
    fixed: torch.Tensor
    rules: MaskRules = DEFAULT_RULES
    tokens: tuple[int, ...] = ()
    prompt_length: int = 0
    blocks: str = ""
    node: str = NODE
    prompt: torch.Tensor | None = None
    notices: Notices = field(default_factory=lambda: Notices(NODE), compare=False)
    resolution: str = LATENT

    @property
    def follows(self) -> bool:
        """True for a mask that follows the target's attention from step to step."""
        return bool(self.tokens)

    def check(self, images: int, height: int, width: int, ratio: int = 8) -> None:
        """Raises ValueError for a mask that does not fit a latent. ratio: the picture's pixels along a latent one's."""
        size = tuple(self.fixed.shape[1:])
        if size not in ((height, width), (ratio * height, ratio * width)):
            raise ValueError(
                f"{self.node}: expected a mask of the picture's size, {ratio * width} x {ratio * height}, got "
                f"{size[1]} x {size[0]}; connect the mask of the layout image that is retouched."
            )
        check_count(len(self.fixed), images, "mask", self.node)

    def check_prompts(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Warns on the mask's node where a prompt of the run, an entry of the host's, is another text than the node's.

        The words' positions in that prompt then belong to other words.
        """
        self.notices.start()
        wanted = self.prompt
        if wanted is None:
            return
        texts = [entry["cross_attn"] for entry in entries if entry.get("cross_attn") is not None]
        others = sum(not same_text(text, wanted) for text in texts)
        if others and others == len(texts):
            self.notices.tell(
                "expected text to be the sampler's positive prompt, got another one, so the mask may follow other "
                "words; write the same into text, and connect the same CLIP."
            )
        elif others:
            self.notices.tell(
                f"expected one positive prompt, got {len(texts)}, of which {others} differ from text, so the mask may "
                "follow other words too; give the sampler a single prompt."
            )


def build_mask(
    subject: torch.Tensor | None,
    heatmap: torch.Tensor | None,
    attention: str = RECORDED,
    clip: CLIP | None = None,
    text: str = "",
    word: str = "",
    blocks: str = "",
    rules: MaskRules = DEFAULT_RULES,
    notices: Notices | None = None,
    resolution: str = LATENT,
) -> SubjectMask:
    """The mask of the widgets.

    subject, heatmap: MASK over the layout image, [height, width] or [images, height, width], at least one of them.
    attention: RECORDED, or PER_STEP, which needs clip, text and word. Raises ValueError for masks that are missing,
    empty or of two sizes. resolution: LATENT or PICTURE, of the mask of each step.
    """
    subject, heat = (None if m is None else (m[None] if m.ndim == 2 else m).float().cpu() for m in (subject, heatmap))
    check_sources(attention, subject is not None or heat is not None, clip is not None)
    if subject is not None and heat is not None:
        _check_shapes(subject, heat)
    heat = None if heat is None else min_max(heat)
    if subject is not None:
        chosen = subject > 0.5
    else:
        assert heat is not None
        chosen = thresholded(heat, rules.threshold)
    if bool((~chosen).all(2).all(1).any()):
        what, advice = ("subject_mask", "") if subject is not None else ("heatmap", "lower threshold, or ")
        raise ValueError(
            f"{NODE}: expected a {what} with the subject in it, got an empty one; {advice}connect another {what}."
        )
    heat = chosen.float() if heat is None else heat
    images = max(len(chosen), len(heat))
    fixed = adaptive_mask(heat.expand(images, -1, -1), chosen.expand(images, -1, -1), rules, SCIPY)
    if not bool((fixed > rules.background).any()):
        raise ValueError(
            f"{NODE}: expected a subject above minimum_area {rules.minimum_area:g}, got a smaller one; lower "
            "minimum_area."
        )
    if attention == RECORDED:
        return SubjectMask(chosen, fixed, rules, blocks=blocks)
    assert clip is not None
    where = find_word(clip, text, word, NODE)
    return SubjectMask(
        chosen,
        fixed,
        rules,
        tokens=where.tokens,
        prompt_length=where.prompt_length,
        blocks=blocks,
        prompt=clip.encode_from_tokens_scheduled(clip.tokenize(text))[0][0],
        notices=notices or Notices(NODE),
        resolution=resolution,
    )


def check_sources(attention: str, masked: bool, encodes: bool) -> None:
    """Raises ValueError for a node without a mask, or without the CLIP that attention PER_STEP needs."""
    if not masked:
        raise ValueError(f"{NODE}: expected subject_mask or heatmap, got neither; connect one of them.")
    if attention == PER_STEP and not encodes:
        raise ValueError(
            f"{NODE}: expected clip, text and word for attention {PER_STEP}, got no clip; connect it, or set attention "
            f"to {RECORDED}."
        )


def _check_shapes(subject: torch.Tensor, heat: torch.Tensor) -> None:
    if subject.shape[1:] != heat.shape[1:]:
        raise ValueError(
            f"{NODE}: expected subject_mask and heatmap of one size, got {_size_text(subject)} and {_size_text(heat)}; "
            "make both of the same layout image."
        )
    if len({len(subject), len(heat)} - {1}) > 1:
        raise ValueError(
            f"{NODE}: expected as many heatmaps as subject masks, got {len(heat)} and {len(subject)}; make both of the "
            "same layout images."
        )


def _size_text(mask: torch.Tensor) -> str:
    return f"{mask.shape[2]} x {mask.shape[1]}"


def plain_mask(mask: torch.Tensor, node: str) -> SubjectMask:
    """A fixed SubjectMask of a MASK, [height, width] or [images, height, width]. Raises ValueError for an empty one."""
    mask = (mask[None] if mask.ndim == 2 else mask).float().cpu()
    if bool((mask.amax((1, 2)) <= 0).any()):
        raise ValueError(
            f"{node}: expected a mask with the subject in it, got an empty one; connect another mask or none."
        )
    return SubjectMask(mask > 0.5, mask, node=node)


def preview(mask: SubjectMask, image: torch.Tensor | None) -> torch.Tensor:
    """Panels side by side, [images, height, width, 3]: the layout image if given, the subject, the soft mask."""
    fixed, subject = mask.fixed, mask.subject.float().expand(len(mask.fixed), -1, -1)
    count, height, width = fixed.shape
    if image is None:
        picture = torch.full((count, height, width, 3), 0.5)
    else:
        pixels = image[..., :3].movedim(-1, 1).float().cpu()
        picture = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True).movedim(1, -1)
        picture = picture.expand(count, -1, -1, -1) if len(image) == 1 else picture[:count]
    panels = [captioned(overlay(picture, subject), "subject"), captioned(overlay(picture, fixed), "mask")]
    return torch.cat([captioned(picture, "layout"), *panels] if image is not None else panels, 2)


@dataclass(eq=False)
class MaskRun:
    """The mask during one run, at a latent of `size` (height, width), whose pixels are `ratio` pixels wide.

    device: where it is made, also of maps from another one. Only a mask of the picture's size waits, once per step.
    """

    mask: SubjectMask
    size: tuple[int, int]
    device: torch.device
    ratio: int = 8
    live: Live = field(default_factory=lambda: Live(Notices(NODE)))
    _maps: dict[float, dict[Layer, list[tuple[tuple[int, ...], torch.Tensor]]]] = field(default_factory=dict)
    _made: dict[tuple, torch.Tensor] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        full = tuple(self.ratio * n for n in self.size) if self.mask.resolution == PICTURE else self.size
        subject = F.interpolate(self.mask.subject[:, None].float(), full, mode="area")[:, 0]
        # A subject smaller than a latent pixel keeps the pixel that it fills most.
        self._subject = sent(subject >= subject.amax((1, 2), keepdim=True).clamp(max=0.5), self.device)
        self._fixed = sent(self.mask.fixed.float(), self.device)

    def tap(self, family: Family, blocks: tuple[Block, ...]) -> CrossAttentionTap:
        """The tap that records the target's attention into this run."""
        return CrossAttentionTap(
            self.mask.node,
            family,
            blocks,
            sink=self,
            role=TARGET,
            conditional=True,
            tokens=self.mask.tokens,
            prompt_length=self.mask.prompt_length,
        )

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        """Keeps the maps of one layer: values [rows, height * width, tokens]."""
        images = tuple(dict.fromkeys(row.image for row in call.rows if row.role == TARGET))
        # Each of several combined prompts is a chunk of all pictures.
        maps = sent(values.sum(-1).unflatten(1, size).unflatten(0, (-1, len(images))).mean(0), self.device)
        with self._lock:
            self._maps.setdefault(call.sigma, {}).setdefault(layer, []).append((images, maps))

    def at(self, sigma: float, size: tuple[int, int]) -> torch.Tensor:
        """The mask of a step at a layer of (height, width): [1 or images, height * width, 1].

        It is made from the maps of the step before, so the host may ask for rows with and without the prompt in any
        order.
        """
        with self._lock:
            key = (sigma, size)
            if key not in self._made:
                self._forget(sigma)
                self._made[key] = resized(self._at(sigma), size)
            return self._made[key]

    def _at(self, sigma: float) -> torch.Tensor:
        if (sigma, None) not in self._made:
            self.live.map("mask of this step", self._made.setdefault((sigma, None), self._step(sigma)))
        return self._made[sigma, None]

    def _step(self, sigma: float) -> torch.Tensor:
        before = [s for s in self._maps if s > sigma]
        if not before:
            return self._fixed
        heat = min_max(mean_heatmap([_of_all(parts) for parts in self._maps[min(before)].values()], self.size))
        self.live.map("attention to the word", heat)
        if heat.shape[1:] != self._subject.shape[1:]:
            heat = F.interpolate(heat[:, None], self._subject.shape[1:], mode="nearest")[:, 0]
        morphology = SCIPY if self.mask.resolution == PICTURE else TORCH
        return adaptive_mask(heat, self._subject.expand(len(heat), -1, -1), self.mask.rules, morphology)

    def _forget(self, sigma: float) -> None:
        needed = min((s for s in self._maps if s > sigma), default=None)
        for s in [s for s in self._maps if s > sigma and s != needed]:
            del self._maps[s]
        for key in [k for k in self._made if k[0] > sigma]:
            del self._made[key]


def _of_all(parts: list[tuple[tuple[int, ...], torch.Tensor]]) -> torch.Tensor:
    """One layer's maps of all pictures, [images, height, width], from those of one or several calls, averaged.

    parts: numbers of the pictures, and their maps.
    """
    by_image: dict[int, list[torch.Tensor]] = {}
    for images, maps in parts:
        for image, one in zip(images, maps, strict=True):
            by_image.setdefault(image, []).append(one)
    return torch.stack([torch.stack(by_image[i]).mean(0) for i in sorted(by_image)])
