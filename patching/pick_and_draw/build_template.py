"""Builds a layout template from a recorded vanilla run, or from a mask or boxes, for LayoutTemplate."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import comfy.samplers
import torch

from ..features.fitting import reduced
from ..features.host_memory import HostMemory
from ..features.taps import CrossAttentionTap
from ..host.attach import attach
from ..host.blocks import Layer, check_names, parse
from ..host.checks import given_clip
from ..host.families import discover, family_of
from ..host.notices import Notices
from ..host.passes import sample
from ..host.quoted import shortened
from ..host.run import Call
from ..host.window import ALWAYS, Window, check_window, shown_steps
from ..host.words import find_word
from .template import NODE, Template

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

_MOST_PIXELS = 1024 * 1024
"""Pixels of a drawn mask, which every layer of every step scales to its own size."""


@dataclass(eq=False)
class Recorder:
    """A sink for the maps of one sampling run of a model of `family`."""

    family: str
    maps: dict[Layer, dict[float, torch.Tensor]] = field(default_factory=dict)

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        """Keeps the mean over tokens of [images, height * width, tokens].

        Raises ValueError where the call does not show whole pictures.
        """
        maps, shown = values.mean(-1).unflatten(1, size), call.shown
        if shown.images is None or shown.seen != shown.size:
            raise ValueError(shown.refusal(NODE))
        if len(shown.images) < shown.batch:
            whole = self.maps.get(layer, {}).get(call.sigma, maps.new_zeros(shown.batch, *size))
            for image, one in zip(shown.images, maps, strict=True):
                whole[image] = one
            maps = whole
        self.maps.setdefault(layer, {})[call.sigma] = maps

    def finish(self) -> Template:
        """The template of everything recorded; raises ValueError where nothing was."""
        if not self.maps:
            raise ValueError(
                f"{NODE}: expected steps inside the window, got none; widen start_percent to end_percent or raise "
                "steps."
            )
        memory = HostMemory()
        maps = {layer: {s: memory.copy_of(m.float()) for s, m in levels.items()} for layer, levels in self.maps.items()}
        memory.wait()
        return Template(self.family, maps)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The widgets of KSampler."""

    seed: int
    steps: int
    cfg: float
    sampler: str
    scheduler: str
    denoise: float


def recorder_of(
    model: ModelPatcher, clip: CLIP | None, *, text: str, word: str, blocks: str, window: Window
) -> tuple[Recorder, CrossAttentionTap]:
    """A recorder of a word's maps, and the patch of MODEL that shows them to it while it samples.

    Raises ValueError in one sentence.
    """
    clip = given_clip(clip, NODE)
    check_names(blocks, NODE, needed=True)
    check_window(window.start_percent, window.end_percent, NODE)
    family, chosen = family_of(model, NODE), parse(blocks, discover(model, NODE), NODE)
    where = find_word(clip, text, word, NODE)
    recorder = Recorder(family.name)
    tap = CrossAttentionTap(
        NODE, family, chosen, recorder, window, conditional=True, tokens=where.tokens, prompt_length=where.prompt_length
    )
    return recorder, tap


def record_template(
    model: ModelPatcher,
    clip: CLIP,
    *,
    text: str,
    word: str,
    negative: list,
    latent: dict,
    sampling: Sampling,
    blocks: str,
    window: Window,
    notices: Notices | None = None,
    picture: bool = True,
) -> tuple[Template, dict]:
    """Samples with the vanilla model: the word's maps inside the window, and the LATENT of the template image.

    notices: those of the node, for the steps of the window. picture: False to end the run with the window, where the
    LATENT means nothing. Raises ValueError in one sentence.
    """
    recorder, tap = recorder_of(model, clip, text=text, word=word, blocks=blocks, window=window)
    guider = comfy.samplers.CFGGuider(attach(model, tap))
    guider.set_conds(clip.encode_from_tokens_scheduled(clip.tokenize(text)), negative)
    guider.set_cfg(sampling.cfg)
    schedule = comfy.samplers.KSampler(
        model, sampling.steps, model.load_device, sampling.sampler, sampling.scheduler, sampling.denoise
    )
    shown = shown_steps(window, schedule.sigmas[:-1].tolist(), model.get_model_object("model_sampling"))
    if shown and notices is not None:
        notices.inform(shown)
    samples = sample(
        guider,
        latent,
        seed=sampling.seed,
        steps=sampling.steps,
        sampler=sampling.sampler,
        scheduler=sampling.scheduler,
        denoise=sampling.denoise,
        node=NODE,
        only=ALWAYS if picture else window,
    )
    return recorder.finish(), samples


def draw_template(model: ModelPatcher, mask: torch.Tensor | None, boxes: str, latent: dict) -> Template:
    """A template from a MASK or from boxes: per line four fractions of the picture, left, top, right, bottom.

    mask: [height, width] or [images, height, width]; latent: gives the size of boxes. Raises ValueError in one
    sentence.
    """
    check_boxes(boxes, mask is not None)
    if mask is None:
        height, width = (8 * n for n in latent["samples"].shape[-2:])
        mask = _boxes(boxes, height, width)[None]
    mask = reduced((mask[None] if mask.ndim == 2 else mask).float().cpu().clamp(0, 1), _MOST_PIXELS)
    if bool((mask.amax((1, 2)) <= 0).any()):
        raise ValueError(f"{NODE}: expected a mask with the subject in it, got an empty one; draw the subject's place.")
    return Template(family_of(model, NODE).name, mask=mask)


def check_boxes(boxes: str, masked: bool) -> None:
    """Raises ValueError for boxes beside a mask, and for text that is no boxes."""
    if masked and boxes.strip():
        raise ValueError(f"{NODE}: expected a mask or boxes, got both; disconnect mask or empty boxes.")
    _boxes(boxes, 1, 1)


def _boxes(text: str, height: int, width: int) -> torch.Tensor:
    """[height, width]: 1 inside the boxes, 0 outside."""
    mask = torch.zeros(height, width)
    for line in text.strip().splitlines():
        try:
            left, top, right, bottom = (float(n) for n in line.replace(",", " ").split())
        except ValueError:
            left = top = right = bottom = -1.0
        if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
            raise ValueError(
                f"{NODE}: expected four fractions per line of boxes, left top right bottom, each between 0 and 1, got "
                f"'{shortened(line)}'; write 0.1 0.2 0.5 0.9, for example."
            )
        mask[round(top * height) : round(bottom * height), round(left * width) : round(right * width)] = 1
    return mask
