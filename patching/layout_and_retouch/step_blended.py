"""Step-blended denoising (Layout-and-Retouch, arXiv 2407.09779, section 3.2): one run, two models, one switch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import comfy.model_patcher
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy.samplers
import torch

from ..features.bank import OUTPUT, FeatureBank
from ..features.taps import BankSink, OutputTap
from ..features.trajectory import Trajectory, TrajectoryRecorder
from ..host.attach import attach
from ..host.blocks import parse
from ..host.checks import check_latent, check_models
from ..host.families import discover, family_of, preset
from ..host.family import LATE
from ..host.run import sampler_name
from ..host.same import added, same, same_model
from ..host.window import SAME_LEVEL

NODE = "StepBlendedSampler"


@dataclass(frozen=True)
class Switch:
    """When the personalised model takes over: after `steps` sampling steps, or at a fraction `percent` of sampling.

    of: how many steps were asked for, where the scheduler may make one more or less of them; all of these are the
    vanilla model's.
    """

    steps: int | None = None
    percent: float | None = None
    of: int | None = None

    def sigma(self, sigmas: torch.Tensor, model_sampling, node: str = NODE) -> float:
        """Calls at a noise level above this one belong to the vanilla model.

        sigmas: [steps + 1] levels of the run. Raises ValueError where the step lies beyond the run.
        """
        if self.percent is not None:
            if self.percent <= 0:
                return math.inf
            return -math.inf if self.percent >= 1 else float(model_sampling.percent_to_sigma(self.percent)) * SAME_LEVEL
        assert self.steps is not None
        run = len(sigmas) - 1
        last = run if self.of is None else self.of
        if not 0 <= self.steps <= last:
            raise ValueError(
                f"{node}: expected switch_step between 0 and the run's {last} steps, got {self.steps}; lower "
                "switch_step or raise steps."
            )
        if self.steps == 0:
            return math.inf
        return -math.inf if self.steps >= min(last, run) else float(sigmas[self.steps]) * SAME_LEVEL


class _RecordingGuider(comfy.samplers.CFGGuider):
    """Classifier-free guidance that notes what its model sees, while it has a recorder."""

    recorder: TrajectoryRecorder | None = None

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        denoised = super().predict_noise(x, timestep, model_options, seed)
        if self.recorder is not None:
            self.recorder.record(float(timestep.max()), x, denoised)
        return denoised


class StepBlendedGuider(_RecordingGuider):
    """Classifier-free guidance by the vanilla model first and by the personalised one from the switch on.

    z_{k+1} = Sample(z_k, eps(z_k, y-)) for k < tau, Sample(z_k, eps*(z_k, y)) from then on. To the host this is the
    vanilla model's guider, so the sampler runs once and keeps its history; the calls after the switch go to a second
    guider of the personalised model.
    """

    def __init__(self, vanilla, personalized, switch: Switch, node: str = NODE, record_blocks: str = ""):
        """record_blocks: the blocks whose self-attention is kept in the trajectory's bank, in the language of
        `blocks.parse`."""
        check_models(vanilla, personalized, node)
        self._given = (vanilla, personalized)
        self._features = BankSink(OUTPUT, "")
        blocks = (
            parse(record_blocks, discover(personalized, node), node, preset(personalized, LATE, node))
            if record_blocks.strip()
            else ()
        )
        if blocks:
            tap = OutputTap(node, family_of(personalized, node), blocks, self._features)
            vanilla, personalized = attach(vanilla, tap), attach(personalized, tap)
        super().__init__(vanilla)
        # Hooks are registered on the patcher, so the two phases need one each even if the models are the same object.
        self.second = _PersonalizedPhase(personalized.clone() if personalized is vanilla else personalized)
        self.switch, self.node = switch, node
        self._final_conds: tuple[list, list] = ([], [])
        self.trajectory: Trajectory | None = None
        self._result: torch.Tensor | None = None
        self._run: _Run | None = None

    def set_blended_conds(self, positive, personalized_positive, negative, personalized_negative=None) -> None:
        """Raises ValueError where blending could change nothing, e.g. because a LoRA matched no layer."""
        if same_model(*self._given) and same(positive, personalized_positive):
            raise ValueError(
                f"{self.node}: expected a personalized_model or personalized_positive that differs from the vanilla "
                "one, got the same weights and the same conditioning; connect the model behind the subject's LoRA, "
                "and check that the LoRA was made for this checkpoint."
            )
        self._final_conds = (
            personalized_positive,
            negative if personalized_negative is None else personalized_negative,
        )
        self.set_conds(positive, negative)
        self.second.set_conds(*self._final_conds)

    def set_cfg(self, cfg: float) -> None:
        super().set_cfg(cfg)
        self.second.set_cfg(cfg)

    def sample(self, noise, latent_image, sampler, sigmas, *args, **kwargs):
        check_latent(latent_image, self.node)
        self.trajectory = self._result = None
        if len(sigmas) == 0:
            self.trajectory, self._result = Trajectory((), ()), latent_image
            return latent_image
        switch = self.switch.sigma(sigmas, self.model_patcher.get_model_object("model_sampling"), self.node)
        run = self._run = _Run(switch)
        recorder = self.recorder = self.second.recorder = TrajectoryRecorder()
        bank = self._features.bank = FeatureBank()
        sample = super().sample
        if switch >= float(sigmas[0]):
            run.vanilla_calls, sample = 0, self.second.sample
        try:
            result = sample(noise, latent_image, sampler, sigmas, *args, **kwargs)
        finally:
            self._run = self.recorder = self.second.recorder = None
            self._features.bank = None
        self.trajectory, self._result = recorder.finish(*self._final_conds, bank, sampler_name(sampler), switch), result
        self._report(run, self.trajectory)
        return result

    def outer_sample(
        self,
        noise,
        latent_image,
        sampler,
        sigmas,
        denoise_mask=None,
        callback=None,
        disable_pbar=False,
        seed=None,
        **kwargs,
    ):
        run, vanilla_run = self._run, super().outer_sample
        assert run is not None
        if run.switch_sigma == -math.inf:
            return vanilla_run(
                noise, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed, **kwargs
            )
        comfy.patcher_extension.add_wrapper_with_key(
            comfy.patcher_extension.WrappersMP.SAMPLER_SAMPLE,
            "likeness.step_blended",
            run.start,
            self.model_options,
            is_model_options=True,
        )
        # The host has repeated the mask for every channel and does so again; it also works out kwargs again.
        mask = None if denoise_mask is None else denoise_mask[:, :1]
        return self.second.around(vanilla_run, noise, latent_image, sampler, sigmas, mask, callback, disable_pbar, seed)

    def outer_predict_noise(self, x, timestep, model_options={}, seed=None):
        run = self._run
        assert run is not None
        if run.vanilla_calls is None and float(timestep.max()) <= run.switch_sigma:
            assert run.started is not None and self.recorder is not None
            run.vanilla_calls = len(self.recorder)
            self.model_patcher.clean_hooks()  # before other patches come upon the same weights
            self.second.load(run.started)
        if run.vanilla_calls is None:
            return super().outer_predict_noise(x, timestep, model_options, seed)
        return self.second.predict_in_place(x, timestep, model_options, seed)

    def gave(self, samples: torch.Tensor) -> bool:
        """Whether the last run ended with these samples."""
        last = self._result
        if last is None or samples.shape != last.shape:
            return False
        return torch.allclose(samples.cpu(), last.to("cpu", samples.dtype), rtol=0, atol=0, equal_nan=True)

    def _report(self, run: _Run, trajectory: Trajectory) -> None:
        first = len(trajectory) if run.vanilla_calls is None else run.vanilla_calls
        second = len(trajectory) - first
        logging.info(
            "%s: %d calls of the vanilla model, then %d of the personalised one; trajectory of %s",
            self.node,
            first,
            second,
            trajectory.describe(),
        )
        if math.isfinite(run.switch_sigma) and not (first and second):
            idle = "personalised" if first else "vanilla"
            logging.warning(
                "%s: the %s model did nothing, because the run never reached its part; move the switch.",
                self.node,
                idle,
            )


class _Started(NamedTuple):
    """What the sampler was given when it started, from which the personalised model is prepared as well."""

    options: dict
    sigmas: torch.Tensor
    seed: int | None
    noise: torch.Tensor
    latent_image: torch.Tensor | None
    denoise_mask: torch.Tensor | None


class _PersonalizedPhase(_RecordingGuider):
    """The personalised model's part: options, hooks and wrappers are in place for the whole run, the weights from the
    switch on."""

    def __init__(self, model):
        super().__init__(model)
        self._vanilla_run: Callable | None = None
        self._started: _Started | None = None
        self._shapes: dict = {}
        self._step_options: dict = {}

    def around(self, vanilla_run: Callable, *args, **kwargs):
        """Samples with `vanilla_run`, a CFGGuider.outer_sample, inside everything that the host sets up for this
        model's runs."""
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

    def load(self, started: _Started) -> None:
        """Puts this model's weights in place and prepares its conditioning, in the middle of the run."""
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
            model.load_device,
            started.latent_image,
            started.denoise_mask,
            started.seed,
            **self._shapes,
        )
        self._step_options = comfy.model_patcher.create_model_options_clone(self.model_options)
        self._step_options.setdefault("transformer_options", {})["sample_sigmas"] = started.sigmas

    def predict_in_place(self, x, timestep, vanilla_options: dict, seed: int | None):
        """This model's prediction in a call that a sampler addressed to the vanilla one."""
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


@dataclass
class _Run:
    """The state of one sampling run."""

    switch_sigma: float
    vanilla_calls: int | None = None
    started: _Started | None = None

    def start(
        self,
        executor,
        guider,
        sigmas,
        extra_args,
        callback,
        noise,
        latent_image=None,
        denoise_mask=None,
        *args,
        **kwargs,
    ):
        """A SAMPLER_SAMPLE wrapper: notes what the sampler is given."""
        options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
        self.started = _Started(options, sigmas, extra_args.get("seed"), noise, latent_image, denoise_mask)
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *args, **kwargs)


def recorded(guider, latent: dict) -> Trajectory:
    """The trajectory of the run of `guider` that gave `latent`. Raises ValueError where there is none."""
    node = "LikenessRecordedTrajectory"
    if not isinstance(guider, StepBlendedGuider):
        raise ValueError(
            f"{node}: expected the guider of LikenessStepBlendedGuider, got {type(guider).__name__}; connect that node."
        )
    if guider.trajectory is None:
        raise ValueError(
            f"{node}: expected a guider that has sampled, got one that has not; "
            "connect the output of the SamplerCustomAdvanced that uses this guider to latent."
        )
    if not guider.gave(latent["samples"]):
        raise ValueError(
            f"{node}: expected the latent of this guider's last run, got another one; connect the output (not "
            "denoised_output) of the SamplerCustomAdvanced that uses it, and give each sampler a guider of its own."
        )
    return guider.trajectory
