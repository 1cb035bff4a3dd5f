"""The guider that samples a set of pictures of one subject, some of them given (JeDi, arXiv 2407.06187)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.jedi import arranged, given_channels, ordered_guidance
from ..features.references import Reference
from ..host.blocks import Layer
from ..host.checks import check_latent
from ..host.family import Options
from ..host.notices import Notices
from ..host.tokens import Tokens
from .format import JointFormat
from .members import fitted
from .prompts import stacked
from .run import JOINT, TEXT_FIRST, TEXT_ONLY, JointRun, JointSettings

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_KEY = "likeness.joint"
_ALONE, _NULL, _SET, _SET_WITHOUT_TEXT = "positive", "negative", "positive_set", "negative_set"
"""Names of a step's passes and of their conditionings: pictures alone or in their set, with prompts or without."""
_OF_SETS = (_SET, _SET_WITHOUT_TEXT)


class JointGuider(comfy.samplers.CFGGuider):
    """Guides N pictures by their prompts and by M references.

    The sampler only sees the N pictures. The model also sees the references, noised to the level of every call (the
    replacement trick, JeDi, arXiv 2407.06187, section 3.3), so any sampler works.
    """

    def __init__(
        self,
        model: ModelPatcher,
        *,
        settings: JointSettings,
        prompts: Sequence[list],
        negative: list,
        references: Sequence[Reference],
        node: str,
        notices: Notices | None = None,
    ):
        """prompts: CONDITIONINGs of one entry each, one per picture or one for all."""
        model = model.clone()
        model.add_wrapper_with_key(
            WrappersMP.PREPARE_SAMPLING, _KEY, _MemoryForReferences(len(references), settings.pictures)
        )
        if settings.format is not None:
            model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, _KEY, _ChannelOrder(settings.format))
        super().__init__(model)
        self.settings, self.node = settings, node
        self.notices = notices or Notices(node)
        self._prompts: tuple[list, ...] = tuple(prompts)
        self._negative, self._references = negative, tuple(references)
        self._run: JointRun | None = None

    def sample(
        self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None
    ):
        self.notices.start()
        check_latent(latent_image, self.node)
        rows, _, height, width = latent_image.shape
        count = self.settings.pictures or rows
        if len(self._prompts) not in (1, count) or rows % count:
            raise ValueError(
                f"{self.node}: expected one prompt for every picture or one for all, got {len(self._prompts)} prompts "
                f"and {rows} latents; give the sampler a latent batch of as many as there are prompts."
            )
        members = [fitted(item, height, width, self.node) for item in self._references]
        run = self._run = JointRun(
            self.model_patcher,
            settings=self.settings,
            references=self._references,
            members=members,
            count=count,
            sets=rows // count,
            seed=seed or 0,
        )
        try:
            self.inner_set_conds(self._conditionings(run, latent_image))
            result = super().sample(
                noise,
                latent_image,
                sampler,
                sigmas,
                denoise_mask=denoise_mask,
                callback=callback,
                disable_pbar=disable_pbar,
                seed=seed,
            )
            run.report(self.notices)
            return result
        finally:
            self._run = None
            self.original_conds = {}

    def _conditionings(self, run: JointRun, latent_image: torch.Tensor) -> dict[str, list]:
        prompts = [*self._prompts] * (run.count if len(self._prompts) == 1 else 1)
        pooled = bool(self.model_patcher.model.adm_channels)
        texts = {_ALONE: stacked(prompts, pooled, self.node) if len(prompts) > 1 else prompts[0], _NULL: self._negative}
        if self.settings.shares(run.count + len(self._references)):
            texts[_SET] = stacked([*prompts, *(item.conditioning for item in self._references)], pooled, self.node)
            texts[_SET_WITHOUT_TEXT] = self._negative
        if self.settings.format is None:
            return texts
        clean = torch.zeros_like(latent_image[: run.count], dtype=torch.float32, device="cpu")
        alone = given_channels(clean, torch.ones(run.count))
        whole_set = (
            alone if run.known is None else torch.cat([alone, given_channels(run.known, torch.zeros(len(run.known)))])
        )
        channels = {name: whole_set if name in _OF_SETS else alone for name in texts}
        return {
            name: [[text, {**rest, "noise_concat": channels[name]}] for text, rest in entries]
            for name, entries in texts.items()
        }

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        run, kind, first, second = self._run, self.settings.guidance, self.cfg, self.settings.image_cfg
        assert run is not None
        sigma = float(timestep.max())
        if not run.couples(sigma):
            return super().predict_noise(x, timestep, model_options, seed)
        step = _Step(self, run, x, timestep, sigma, options=model_options)
        if kind == TEXT_ONLY:
            return step.guided(_SET, _SET_WITHOUT_TEXT, first)
        if kind == JOINT or first == second:
            return step.guided(_SET, _NULL, first)
        if kind == TEXT_FIRST:
            return step.guided_in_order(_ALONE, first, second)
        return step.guided_in_order(_SET_WITHOUT_TEXT, second, first)


class _Step:
    """The model calls of one step, each made at most once."""

    def __init__(
        self, guider: JointGuider, run: JointRun, x: torch.Tensor, timestep: torch.Tensor, sigma: float, options: dict
    ):
        self._guider, self._run, self._x, self._t, self._sigma, self._options = guider, run, x, timestep, sigma, options
        self._rows = run.with_references(x, sigma)
        self._made: dict[str, torch.Tensor] = {}

    def guided(self, name: str, without: str, scale: float) -> torch.Tensor:
        """s_without + scale (s_name - s_without): equation 3 of JeDi, which is the host's classifier-free guidance."""
        return self._sampled(
            lambda both: [self._of(name), self._of(without) if both else torch.zeros_like(self._x)], scale
        )

    def guided_in_order(self, partial: str, first: float, second: float) -> torch.Tensor:
        """Equation 4 of JeDi by `kernels.jedi.ordered_guidance`, without passes of weight 0."""
        part = self._of(partial)
        null = part if first == 1 else self._of(_NULL)
        full = part if second == 0 else self._of(_SET)
        mixed = ordered_guidance(null, part, full, first, second)
        # Some samplers step along the negative pass and request it even if guidance does not need it.
        return self._sampled(lambda both: [mixed, self._of(_NULL) if both else null], 1.0)

    def _sampled(self, predictions: Callable[[bool], list[torch.Tensor]], scale: float) -> torch.Tensor:
        """The host's guidance of two predictions, with the functions that other packs added to it."""

        def calculate(args: dict) -> list[torch.Tensor]:
            return predictions(args["conds"][1] is not None)

        guider, conds = self._guider, self._guider.conds
        options = {**self._options, "sampler_calc_cond_batch_function": calculate}
        return comfy.samplers.sampling_function(
            guider.inner_model, self._x, self._t, conds[_NULL], conds[_ALONE], scale, options
        )

    def _of(self, name: str) -> torch.Tensor:
        """Denoised latents of the generated pictures in one pass."""
        if name not in self._made:
            self._made[name] = self._in_set(name) if name in _OF_SETS else self._evaluated(name, self._x, self._options)
        return self._made[name]

    def _in_set(self, name: str) -> torch.Tensor:
        run = self._run
        layers = run.settings.layers
        vanilla = self._vanilla(_ALONE if name == _SET else _NULL) if run.blends(self._sigma) else None
        change = run.coupling(self._guider.node, self._sigma, self._x.device, vanilla)
        options = _with(self._options, lambda o: run.family.change_self_attention(o, layers, change))
        denoised = self._evaluated(name, self._rows, options)
        generated, references = run.split(denoised)
        run.keep(self._sigma, run.split(self._rows)[1], references, preferred=name == _SET)
        return generated

    def _vanilla(self, name: str) -> dict[Layer, torch.Tensor]:
        """Hidden states of uncoupled pictures at the coupled layers; also caches the prediction for guidance."""
        seen: dict[Layer, torch.Tensor] = {}

        def read(layer: Layer, hidden: torch.Tensor, tokens: Tokens) -> None:
            seen[layer] = hidden

        options = _with(self._options, lambda o: self._run.family.tap_hidden_states(o, self._run.settings.layers, read))
        self._made[name] = self._evaluated(name, self._x, options)
        return seen

    def _evaluated(self, name: str, x: torch.Tensor, options: dict) -> torch.Tensor:
        guider = self._guider
        conds = guider.conds[name]
        # Other packs tell the positive from the negative side by the position in this list.
        pair, index = ([conds, None], 0) if name in (_ALONE, _SET) else ([None, conds], 1)
        model, t = guider.inner_model, self._t[:1].expand(len(x))
        other = options.get("sampler_calc_cond_batch_function")
        if other is not None:
            return other({"conds": pair, "input": x, "sigma": t, "model": model, "model_options": options})[index]
        return comfy.samplers.calc_cond_batch(model, pair, x, t, options)[index]


def _with(options: dict, change: Callable[[Options], Options]) -> dict:
    return {**options, "transformer_options": change(options.get("transformer_options", {}))}


@dataclass(frozen=True)
class _MemoryForReferences:
    """PREPARE_SAMPLING wrapper: includes the references' rows in the host's memory estimate.

    pictures: per set, None for the whole batch.
    """

    references: int
    pictures: int | None

    def __call__(self, executor, model, noise_shape, *args, **kwargs):
        sets = noise_shape[0] // self.pictures if self.pictures else 1
        return executor(model, [noise_shape[0] + sets * self.references, *noise_shape[1:]], *args, **kwargs)


@dataclass(frozen=True)
class _ChannelOrder:
    """DIFFUSION_MODEL wrapper: orders the input channels as the checkpoint expects them."""

    format: JointFormat

    def __call__(self, executor, x, *args, **kwargs):
        return executor(arranged(x, self.format.channel_order, self.format.one_is_missing), *args, **kwargs)
