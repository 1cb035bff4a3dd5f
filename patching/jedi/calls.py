"""Wrappers in the host's model calls for a set: coupled attention, channel order, memory, other packs' evaluations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from ...kernels.jedi import arranged
from ..host.blocks import Layer
from ..host.family import LATENT, Family, Options
from ..host.reached import Reached
from ..host.shown import Shown, shown_images
from .coupling import Coupling, PerPrompt
from .format import JointFormat


@dataclass(frozen=True)
class MemoryForReferences:
    """PREPARE_SAMPLING wrapper: includes the references' rows in the host's memory estimate.

    pictures: per set, None for the whole batch.
    """

    references: int
    pictures: int | None

    def __call__(self, executor, model, noise_shape, *args, **kwargs):
        sets = noise_shape[0] // self.pictures if self.pictures else 1
        return executor(model, [noise_shape[0] + sets * self.references, *noise_shape[1:]], *args, **kwargs)


@dataclass(frozen=True)
class ChannelOrder:
    """DIFFUSION_MODEL wrapper: orders the input channels as the checkpoint expects them."""

    format: JointFormat

    def __call__(self, executor, x, *args, **kwargs):
        return executor(arranged(x, self.format.channel_order, self.format.one_is_missing), *args, **kwargs)


@dataclass(frozen=True, eq=False)
class CoupledCalls:
    """APPLY_MODEL wrapper: couples the pictures of sets in the calls of a pass.

    layers: whose self-attention is coupled. shape: [rows, channels, height, width] of the sets' latents.
    changes: by the index of a prompt in the pass; other prompts stay uncoupled. reached: takes note of every call.
    Raises ValueError for a call without all pictures of the sets in full: they could not look at each other.
    """

    node: str
    family: Family
    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    changes: Mapping[int, Coupling]
    reached: Reached = field(default_factory=Reached)

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        options, family = transformer_options, self.family
        prompts = options.get("cond_or_uncond", (0,))
        self._check(x, options, len(prompts))
        replaced = frozenset(layer for layer in self.layers if family.replaces_self_attention(options, (layer,)))
        changes = tuple(replace(self.changes[i], replaced=replaced) if i in self.changes else None for i in prompts)
        change = changes[0] if len(changes) == 1 else PerPrompt(changes)
        if change is not None:
            options = family.change_self_attention({**options, LATENT: tuple(x.shape)}, self.layers, change)
        # By position, as the host calls its wrappers.
        made = executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
        self.reached.note(transformer_options, options)
        return made

    def _check(self, x: torch.Tensor, options: Options, prompts: int) -> None:
        count, batch = len(x) / prompts, self.shape[0]
        seen, size = (x.shape[-2], x.shape[-1]), (self.shape[-2], self.shape[-1])
        if count == batch and seen == size:
            return
        images = shown_images(options, int(count), batch)
        areas = (None,) * prompts
        raise ValueError(Shown(batch, size, int(count), seen, images=images, areas=areas).refusal(self.node))


@dataclass(frozen=True, eq=False)
class OtherEvaluations:
    """CALC_COND_BATCH wrapper: hands the evaluations that other nodes make beside the sampler's own to the set.

    answer(conditions, latents, noise levels, model_options): the denoised latents per condition.
    """

    answer: Callable[[Sequence, torch.Tensor, torch.Tensor, dict], list[torch.Tensor]]

    def __call__(self, executor, model, conds, x_in, timestep, model_options):
        return self.answer(conds, x_in, timestep, model_options)


def with_first(options: dict, kind: str, key: str, wrapper: Callable) -> dict:
    """A copy of model_options with a wrapper that the host calls before all others of its kind."""
    transformer = options.get("transformer_options", {})
    wrappers = transformer.get("wrappers", {})
    others = {name: known for name, known in wrappers.get(kind, {}).items() if name != key}
    changed = {**transformer, "wrappers": {**wrappers, kind: {key: [wrapper], **others}}}
    return {**options, "transformer_options": changed}


def without(options: dict, kind: str, key: str) -> dict:
    """A copy of model_options without a key's wrappers of one kind."""
    transformer = options.get("transformer_options", {})
    wrappers = transformer.get("wrappers", {})
    others = {name: known for name, known in wrappers.get(kind, {}).items() if name != key}
    return {**options, "transformer_options": {**transformer, "wrappers": {**wrappers, kind: others}}}
