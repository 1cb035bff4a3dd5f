"""The guider that samples a set of pictures of one subject, some of them given (JeDi, arXiv 2407.06187)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.jedi import given_channels
from ..features.looking import Looks, Shown, View, check_picture
from ..features.references import Reference
from ..host.blocks import Layer
from ..host.checks import check_latent, image_latent
from ..host.families import family_of
from ..host.live import Live
from ..host.notices import Notices
from ..host.passes import repeats_text
from ..host.shown import check_context_windows
from ..host.window import ModelSampling, shown_steps
from .calls import ChannelOrder, MemoryForReferences
from .members import fitted
from .prompts import stacked
from .run import JOINT, TEXT_FIRST, TEXT_ONLY, JointRun, JointSettings
from .step import ALONE, KEY, NULL, OF_SETS, SET, SET_WITHOUT_TEXT, SetStep
from .texts import HiddenFilling, entries_of, joined

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


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
            WrappersMP.PREPARE_SAMPLING, KEY, MemoryForReferences(len(references), settings.pictures)
        )
        if settings.format is not None:
            model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, KEY, ChannelOrder(settings.format))
        self._stacks, self._family = repeats_text(model.model), family_of(model, node)
        if not self._stacks:
            model.add_wrapper_with_key(WrappersMP.APPLY_MODEL, f"{KEY}.text", HiddenFilling(self._family))
        super().__init__(model)
        self.settings, self.node = settings, node
        self.notices = notices or Notices(node)
        self._prompts: tuple[list, ...] = tuple(prompts)
        self._negative, self._references = negative, tuple(references)
        self._run: JointRun | None = None
        self._looks: Looks | None = None

    @property
    def looking_layers(self) -> tuple[Layer, ...]:
        """The layers in which the pictures of a set look at each other."""
        return self.settings.layers

    def view(self, guider: comfy.samplers.CFGGuider, samples: torch.Tensor, looks: Looks, node: str) -> View:
        """See `features.looking.Viewed`. The pictures to generate come first, then the references."""
        count, (height, width) = len(samples), samples.shape[-2:]
        if not self.settings.shares(count + len(self._references)):
            raise ValueError(
                f"{node}: expected a set whose pictures look at each other, got a single picture or a neutral setting; "
                f"set strength above 0 and name blocks on {self.node}, and connect references or a list of prompts."
            )
        check_picture(looks.point.picture + 1, count + len(self._references), node)
        if len(self._prompts) not in (1, count):
            raise ValueError(
                f"{node}: expected the {len(self._prompts)} pictures that this guider has made, got {count}; connect "
                "the latent of its own sampler."
            )
        watched = copy.copy(self)
        watched._looks, watched.notices, watched.original_conds = looks, Notices(self.node), {}
        given = [fitted(item, height, width, self.node).samples for item in self._references]
        shown = [Shown(f"picture {i + 1}", one, i + 1) for i, one in enumerate(samples.split(1))]
        shown += [Shown(f"reference {i + 1}", one, count + i + 1) for i, one in enumerate(given)]
        return View(watched, samples, tuple(shown), looks.point.picture, self.settings.window, self.node)

    def sample(
        self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None
    ):
        self.notices.start()
        check_latent(latent_image, self.node, self.model_patcher)
        rows, height, width = latent_image.shape[0], latent_image.shape[-2], latent_image.shape[-1]
        count = self.settings.pictures or rows
        if len(self._prompts) not in (1, count) or rows % count:
            raise ValueError(
                f"{self.node}: expected one prompt for every picture or one for all, got {len(self._prompts)} prompts "
                f"and {rows} latents; give the sampler a latent batch of as many as there are prompts."
            )
        if self.settings.shares(count + len(self._references)):
            whole_sets = rows + rows // count * len(self._references)
            check_context_windows(self.model_options, whole_sets, (height, width), self.node)
        members = [fitted(item, height, width, self.node) for item in self._references]
        members = [
            replace(member, samples=image_latent(self.model_patcher, {"samples": member.samples}, self.node))
            for member in members
        ]
        texts = [*self._prompts, self._negative, *(item.conditioning for item in self._references)]
        run = self._run = JointRun(
            self.model_patcher,
            settings=self.settings,
            references=self._references,
            members=members,
            count=count,
            sets=rows // count,
            seed=seed or 0,
            looks=self._looks,
            taken=self._family.taken(rest for text in texts for _, rest in text),
        )
        try:
            self.inner_set_conds(self._conditionings(run, latent_image))
            sampling: ModelSampling = self.model_patcher.get_model_object("model_sampling")
            shown = shown_steps(self.settings.window, sigmas[:-1].tolist(), sampling)
            if shown and self.settings.shares(count + len(members)):
                self.notices.inform(shown)
            Live(self.notices).steps(self._kinds(run, sigmas[:-1].tolist(), sampling))
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

    def _kinds(self, run: JointRun, levels: list[float], sampling: ModelSampling) -> list[str]:
        """Kinds of the run's steps, for the node's drawing."""
        window, shares = self.settings.window.resolve(sampling), self.settings.shares(run.count + len(self._references))
        return ["one set" if shares and window.contains(s) else "each picture by itself" for s in levels]

    def _conditionings(self, run: JointRun, latent_image: torch.Tensor) -> dict[str, list]:
        prompts = [*self._prompts] * (run.count if len(self._prompts) == 1 else 1)

        def together(texts: list) -> list:
            if not self._stacks:
                return entries_of(texts, run.family, self.node)
            return stacked(texts, bool(self.model_patcher.model.adm_channels), self.node)

        texts = {ALONE: together(prompts) if len(prompts) > 1 else prompts[0], NULL: self._negative}
        if self.settings.shares(run.count + len(self._references)):
            texts[SET] = together([*prompts, *(item.conditioning for item in self._references)])
            texts[SET_WITHOUT_TEXT] = self._negative
        if self.settings.format is None:
            return texts
        clean = torch.zeros_like(latent_image[: run.count], dtype=torch.float32, device="cpu")
        alone = given_channels(clean, torch.ones(run.count))
        whole_set = (
            alone if run.known is None else torch.cat([alone, given_channels(run.known, torch.zeros(len(run.known)))])
        )
        channels = {name: whole_set if name in OF_SETS else alone for name in texts}
        return {
            name: [[text, {**rest, "noise_concat": channels[name]}] for text, rest in entries]
            for name, entries in texts.items()
        }

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        run, kind, first, second = self._run, self.settings.guidance, self.cfg, self.settings.image_cfg
        assert run is not None
        for name, entries in self.conds.items():
            if len(entries) > 1 and not self._stacks:
                self.conds[name] = [joined(entries, run.family, self.node)]
        sigma = float(timestep.max())
        if not run.couples(sigma):
            return super().predict_noise(x, timestep, model_options, seed)
        if self._looks is not None:
            return SetStep(self, run, x, timestep, sigma=sigma, options=model_options, keeps=False).of_set()
        step = SetStep(self, run, x, timestep, sigma=sigma, options=model_options)
        if kind == TEXT_ONLY:
            return step.guided(SET, SET_WITHOUT_TEXT, first)
        if kind == JOINT or first == second:
            return step.guided(SET, NULL, first)
        if kind == TEXT_FIRST:
            return step.guided_in_order(ALONE, first, second)
        return step.guided_in_order(SET_WITHOUT_TEXT, second, first)
