"""Step-blended denoising (Layout-and-Retouch, arXiv 2407.09779, section 3.2): one run, two models, one switch."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.sampler_helpers
import comfy.samplers
import comfy.utils
import latent_preview
import torch

from .checks import check_latent, describe_sampling, same_patches
from .trajectory import Trajectory, TrajectoryRecorder

NODE = "StepBlendedSampler"


@dataclass(frozen=True)
class Switch:
    """When the personalised model takes over: after `steps` sampling steps, or at a fraction `percent` of sampling."""

    steps: int | None = None
    percent: float | None = None

    def sigma(self, sigmas: torch.Tensor, model_sampling) -> float:
        """Calls at a noise level above this one belong to the vanilla model.

        sigmas: [steps + 1] levels of the run. Raises ValueError where the step lies beyond the run.
        """
        last = len(sigmas) - 1
        if self.percent is not None:
            if self.percent <= 0:
                return math.inf
            return -math.inf if self.percent >= 1 else float(model_sampling.percent_to_sigma(self.percent))
        assert self.steps is not None
        if self.steps > last:
            raise ValueError(
                f"{NODE}: expected switch_step between 0 and the run's {last} steps, got {self.steps}; lower switch_step or raise steps."
            )
        if self.steps == 0:
            return math.inf
        return -math.inf if self.steps == last else float(sigmas[self.steps])


def check_models(vanilla, personalized) -> None:
    """Raises ValueError, in one sentence, where the two models cannot share one latent."""
    formats = [type(m.get_model_object("latent_format")).__name__ for m in (vanilla, personalized)]
    if formats[0] != formats[1]:
        raise ValueError(
            f"{NODE}: expected models with one latent format, got {formats[0]} and {formats[1]}; "
            "connect a personalized_model made from the same family as model."
        )
    kinds = [describe_sampling(m) for m in (vanilla, personalized)]
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"{NODE}: expected models with one prediction type, got {kinds[0]} and {kinds[1]}; "
            "connect a personalized_model made from the same family as model."
        )


def check_difference(vanilla, personalized, positive, personalized_positive) -> None:
    """Raises ValueError where blending could change nothing, e.g. because a LoRA matched no layer."""
    if not same_patches(vanilla, personalized) or len(positive) != len(personalized_positive):
        return
    pairs = zip(positive, personalized_positive, strict=True)
    if all(a[0].shape == b[0].shape and torch.equal(a[0], b[0]) for a, b in pairs):
        raise ValueError(
            f"{NODE}: expected a personalized_model or personalized_positive that differs from the vanilla one, got the same weights and "
            "the same conditioning; connect the model behind the subject's LoRA, and check that the LoRA was made for this checkpoint."
        )


class StepBlendedGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance by the vanilla model first and by the personalised one from the switch on.

    z_{k+1} = Sample(z_k, eps(z_k, y-)) for k < tau, Sample(z_k, eps*(z_k, y)) from then on. The sampler runs once and keeps its
    history; the second model's weights are loaded once, when they are first needed.
    """

    def __init__(self, vanilla, personalized, switch: Switch):
        super().__init__(vanilla)
        check_models(vanilla, personalized)
        self.vanilla, self.personalized, self.switch = vanilla, personalized, switch
        self.trajectory: Trajectory | None = None
        self._personalized_conds: dict[str, list] = {}
        self._vanilla_conds: dict[str, list] = {}
        self._run: _Run | None = None

    def set_blended_conds(self, positive, personalized_positive, negative, personalized_negative=None) -> None:
        check_difference(self.vanilla, self.personalized, positive, personalized_positive)
        convert = comfy.sampler_helpers.convert_cond
        self.set_conds(positive, negative)
        self._vanilla_conds = self.original_conds
        self._personalized_conds = {
            "positive": convert(personalized_positive),
            "negative": convert(negative if personalized_negative is None else personalized_negative),
        }

    def sample(self, noise, latent_image, sampler, sigmas, *args, **kwargs):
        check_latent(latent_image, NODE)
        sigma = self.switch.sigma(sigmas, self.vanilla.get_model_object("model_sampling"))
        begins_personalized = len(sigmas) > 0 and sigma >= float(sigmas[0])
        self._run = _Run(sigma, TrajectoryRecorder(), switched=begins_personalized)
        if begins_personalized:
            self._use(self.personalized, self._personalized_conds)
        try:
            samples = super().sample(noise, latent_image, sampler, sigmas, *args, **kwargs)
            self.trajectory = self._run.recorder.finish()
            logging.info("%s: trajectory of %s", NODE, self.trajectory.describe())
            return samples
        finally:
            self._run = None
            self._use(self.vanilla, self._vanilla_conds)

    def _use(self, model, conds) -> None:
        self.model_patcher, self.model_options, self.original_conds = model, model.model_options, conds

    def outer_sample(self, *args, **kwargs):
        first, first_options = self.model_patcher, self.model_options
        try:
            return super().outer_sample(*args, **kwargs)
        finally:
            # The host restores hooks and options on the model that it prepared, which is the first.
            self.model_patcher, self.model_options = first, first_options

    def inner_sample(self, noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs):
        assert self._run is not None
        self._run.inputs = _Inputs(noise, latent_image, device, sigmas, denoise_mask, seed, kwargs)
        return super().inner_sample(noise, latent_image, device, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs)

    def outer_predict_noise(self, x, timestep, model_options={}, seed=None):
        run = self._run
        assert run is not None
        sigma = float(timestep.max())
        if not run.switched and sigma <= run.switch_sigma:
            run.second_options = self._load_personalized()
            run.switched = True
        run.recorder.record(sigma, x)
        return super().outer_predict_noise(x, timestep, run.second_options or model_options, seed)

    def _load_personalized(self) -> dict:
        """Puts the personalised model in the vanilla one's place in the middle of a run; returns its model options."""
        assert self._run is not None and self._run.inputs is not None
        inputs, second = self._run.inputs, self.personalized
        self.model_patcher.cleanup()
        comfy.sampler_helpers.cleanup_models(self.conds, self.loaded_models)

        conds = {name: [c.copy() for c in entries] for name, entries in self._personalized_conds.items()}
        comfy.samplers.preprocess_conds_hooks(conds)
        options = comfy.model_patcher.create_model_options_clone(second.model_options)
        comfy.sampler_helpers.prepare_model_patcher(second, conds, options)
        comfy.samplers.filter_registered_hooks_on_conds(conds, options)
        self.model_patcher, self.model_options = second, options
        self.inner_model, conds, self.loaded_models = comfy.sampler_helpers.prepare_sampling(second, inputs.noise.shape, conds, options)
        comfy.samplers.cast_to_load_options(options, device=inputs.device, dtype=second.model_dtype())
        second.pre_run()

        latent = inputs.latent_image
        if latent is not None and torch.count_nonzero(latent) > 0:
            latent = self.inner_model.process_latent_in(latent)
        self.conds = comfy.samplers.process_conds(
            self.inner_model, inputs.noise, conds, inputs.device, latent, inputs.denoise_mask, inputs.seed, **inputs.rest
        )
        options = comfy.model_patcher.create_model_options_clone(options)
        options.setdefault("transformer_options", {})["sample_sigmas"] = inputs.sigmas
        return options


@dataclass
class _Inputs:
    """What the personalised model's conditioning is prepared from when it takes over."""

    noise: torch.Tensor
    latent_image: torch.Tensor | None
    device: torch.device
    sigmas: torch.Tensor
    denoise_mask: torch.Tensor | None
    seed: int | None
    rest: dict


@dataclass
class _Run:
    """The state of one sampling run."""

    switch_sigma: float
    recorder: TrajectoryRecorder
    switched: bool
    inputs: _Inputs | None = None
    second_options: dict | None = None


def sample(guider: StepBlendedGuider, latent: dict, seed: int, steps: int, sampler: str, scheduler: str, denoise: float) -> dict:
    """What KSampler does, with a step-blended guider: same sigmas, same noise, same preview. Returns a new LATENT."""
    check_latent(latent["samples"], NODE)
    model = guider.vanilla
    samples = comfy.sample.fix_empty_latent_channels(model, latent["samples"])
    noise = comfy.sample.prepare_noise(samples, seed, latent.get("batch_index"))
    schedule = comfy.samplers.KSampler(model, steps, model.load_device, sampler, scheduler, denoise, model.model_options)
    result = guider.sample(
        noise,
        samples,
        comfy.samplers.sampler_object(sampler),
        schedule.sigmas,
        denoise_mask=latent.get("noise_mask"),
        callback=latent_preview.prepare_callback(model, len(schedule.sigmas) - 1),
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
        seed=seed,
    )
    return {**latent, "samples": result.to(comfy.model_management.intermediate_device())}


def recorded(guider) -> Trajectory:
    """The trajectory of a guider's last run. Raises ValueError where there is none."""
    if not isinstance(guider, StepBlendedGuider):
        raise ValueError(
            f"LikenessRecordedTrajectory: expected the guider of LikenessStepBlendedGuider, got {type(guider).__name__}; connect that node."
        )
    if guider.trajectory is None:
        raise ValueError(
            "LikenessRecordedTrajectory: expected a guider that has sampled, got one that has not; "
            "connect the output of the SamplerCustomAdvanced that uses this guider to latent."
        )
    return guider.trajectory
