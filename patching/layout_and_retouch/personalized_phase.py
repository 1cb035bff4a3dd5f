"""The personalized model's part of a step-blended run: its guider, loaded in the middle of the sampling."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import comfy.model_patcher
import comfy.sampler_helpers
import comfy.samplers
import torch

from ..features.trajectory import TrajectoryRecorder
from ..host.predictions import Answer, watch
from ..host.same import added

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


class RecordingGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance that records what the sampler asks and gets, while it has a recorder."""

    recorder: TrajectoryRecorder | None = None

    def outer_predict_noise(self, x, timestep, model_options={}, seed=None):
        recorder = self.recorder
        if recorder is None:
            return super().outer_predict_noise(x, timestep, model_options, seed)
        watched, sides = watch(model_options, self)
        denoised = super().outer_predict_noise(x, timestep, watched, seed)
        recorder.record(float(timestep.max()), x, Answer(denoised, *sides.found))
        return denoised


class Started(NamedTuple):
    """The sampler's arguments at its start, from which the personalized model is prepared too."""

    options: dict
    sigmas: torch.Tensor
    seed: int | None
    noise: torch.Tensor
    latent_image: torch.Tensor | None
    denoise_mask: torch.Tensor | None


class PersonalizedPhase(RecordingGuider):
    """The guider of the personalized model.

    Its options, hooks and wrappers are in place for the whole run, its weights from the switch on.
    """

    def __init__(self, model: ModelPatcher):
        super().__init__(model)
        self._vanilla_run: Callable | None = None
        self._started: Started | None = None
        self._shapes: dict = {}
        self._step_options: dict = {}

    def around(self, vanilla_run: Callable, *args, **kwargs):
        """Samples with `vanilla_run`, a CFGGuider.outer_sample, inside the host's set-up for this model's runs."""
        self._vanilla_run = vanilla_run
        try:
            return self.sample(*args, **kwargs)
        finally:
            self._vanilla_run = None

    def outer_sample(self, *args, **kwargs):
        if self._vanilla_run is None:
            return super().outer_sample(*args, **kwargs)
        self._shapes = {name: kwargs[name] for name in ("latent_shapes",) if name in kwargs}
        try:
            return self._vanilla_run(*args, **kwargs)
        finally:
            self._unload()

    def load(self, started: Started) -> None:
        """Loads this model's weights and prepares its conditioning, in the middle of the run."""
        model, self._started, self.loaded_models = self.model_patcher, started, []
        self.inner_model, self.conds, self.loaded_models = comfy.sampler_helpers.prepare_sampling(
            model, started.noise.shape, self.conds, self.model_options
        )
        comfy.samplers.cast_to_load_options(self.model_options, device=model.load_device, dtype=model.model_dtype())
        model.pre_run()
        self.conds = comfy.samplers.process_conds(
            self.inner_model,
            started.noise,
            self.conds,
            device=model.load_device,
            latent_image=started.latent_image,
            denoise_mask=started.denoise_mask,
            seed=started.seed,
            **self._shapes,
        )
        self._step_options = comfy.model_patcher.create_model_options_clone(self.model_options)
        self._step_options.setdefault("transformer_options", {})["sample_sigmas"] = started.sigmas

    def predict_in_place(self, x: torch.Tensor, timestep: torch.Tensor, vanilla_options: dict, seed: int | None):
        """This model's prediction in a call that a sampler made to the vanilla one, with that call's own options."""
        assert self._started is not None
        # CFG++ samplers and others put functions of their own into the options, which must see this model's calls too.
        options = added(vanilla_options, before=self._started.options, onto=self._step_options)
        return self(x, timestep, model_options=options, seed=seed)

    def _unload(self) -> None:
        if self._started is not None:
            self.model_patcher.cleanup()
            comfy.sampler_helpers.cleanup_models(self.conds, self.loaded_models)
        self._started, self._shapes, self._step_options = None, {}, {}
        self.inner_model = self.loaded_models = None
