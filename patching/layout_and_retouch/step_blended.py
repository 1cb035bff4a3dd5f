"""Step-blended denoising (Layout-and-Retouch, arXiv 2407.09779, section 3.2.1): one run, two models, one switch."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import comfy.model_patcher
import comfy.patcher_extension
import comfy.samplers
import torch

from ..features.bank import OUTPUT, FeatureBank
from ..features.room import features_size, tell_size
from ..features.taps import BankSink, OutputTap
from ..features.trajectory import Trajectory, TrajectoryRecorder
from ..host.attach import attach
from ..host.blocks import Block, layers_of, parse
from ..host.checks import check_latent, check_models
from ..host.families import discover, family_of, presets
from ..host.family import LATE
from ..host.live import Live
from ..host.loras import tell_misfits
from ..host.notices import Notices
from ..host.run import sampler_name
from ..host.same import same, same_model
from .personalized_phase import PersonalizedPhase, RecordingGuider, Started
from .switch import Switch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "Two-Model Sampler"


class StepBlendedGuider(RecordingGuider):
    """Step-blended denoising (arXiv 2407.09779, section 3.2.1): the vanilla model first, then the personalized one.

    z_{k+1} = Sample(z_k, eps(z_k, y-)) for k < tau, Sample(z_k, eps*(z_k, y)) from then on. The host sees the
    vanilla model's guider, so the sampler runs once and keeps its history. The calls after the switch go to a second
    guider of the personalized model.
    """

    def __init__(
        self,
        vanilla: ModelPatcher,
        personalized: ModelPatcher,
        switch: Switch,
        node: str = NODE,
        record_blocks: str = "",
        notices: Notices | None = None,
    ):
        """record_blocks: blocks whose self-attention the trajectory's bank keeps, in the language of `blocks.parse`.

        Raises ValueError for models that cannot take turns on one latent, and for unknown blocks.
        """
        check_models(vanilla, personalized, node)
        self._given = (vanilla, personalized)
        self._features = BankSink(OUTPUT, "")
        self._recorded: tuple[Block, ...] = ()
        if record_blocks.strip():
            chosen = parse(
                record_blocks, discover(personalized, node), node, presets(personalized, LATE, node), "record_blocks"
            )
            if chosen:
                self._recorded = chosen
                tap = OutputTap(node, family_of(personalized, node), chosen, self._features, whole=True)
                vanilla, personalized = attach(vanilla, tap), attach(personalized, tap)
        super().__init__(vanilla)
        # Hooks are registered on the patcher, so the two phases need one each even if the models are the same object.
        self.second = PersonalizedPhase(personalized.clone() if personalized is vanilla else personalized)
        self.switch, self.node = switch, node
        self.notices = notices or Notices(node)
        self._vanilla_conds: tuple[list, list] = ([], [])
        self._final_conds: tuple[list, list] = ([], [])
        self.trajectory: Trajectory | None = None
        self._result: torch.Tensor | None = None
        self._run: _Run | None = None

    def set_blended_conds(
        self, positive: list, personalized_positive: list, negative: list, personalized_negative: list | None = None
    ) -> None:
        """Raises ValueError where both phases would compute the same, e.g. because a LoRA matched no layer."""
        if same_model(*self._given) and same(positive, personalized_positive):
            raise ValueError(
                f"{self.node}: expected a personalized_model or personalized_positive that differs from the vanilla "
                "one, got the same weights and the same conditioning; connect the model behind the subject's LoRA, "
                "and check that the LoRA was made for this checkpoint."
            )
        if same_model(*self._given):
            self.notices.inform(
                "both models have the same weights, so the prompt alone changes at the switch; for a LoRA, check that "
                "it was made for this checkpoint."
            )
        tell_misfits(self._given[1], "personalized_model", self.notices)
        self._final_conds = (
            personalized_positive,
            negative if personalized_negative is None else personalized_negative,
        )
        self._vanilla_conds = (positive, negative)
        self.set_conds(positive, negative)
        self.second.set_conds(*self._final_conds)

    def set_cfg(self, cfg: float) -> None:
        super().set_cfg(cfg)
        self.second.set_cfg(cfg)

    def sample(
        self, noise, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None
    ):
        check_latent(latent_image, self.node, self.model_patcher)
        self.notices.start()
        self.trajectory = self._result = None
        if len(sigmas) == 0:
            self.trajectory, self._result = Trajectory((), ()), latent_image
            return latent_image
        switch = self.switch.sigma(sigmas, self.model_patcher.get_model_object("model_sampling"), self.node)
        run = self._run = _Run(switch)
        recorder = self.recorder = self.second.recorder = TrajectoryRecorder()
        bank = self._features.bank = FeatureBank()
        self._tell_size(latent_image, len(sigmas) - 1)
        sample = super().sample
        if switch >= float(sigmas[0]):
            run.vanilla_calls, sample = 0, self.second.sample
        steps = _Steps(recorder, callback)
        try:
            result = sample(noise, latent_image, sampler, sigmas, denoise_mask, steps, disable_pbar, seed)
        finally:
            self._run = self.recorder = self.second.recorder = None
            self._features.bank = None
        self._result = result
        self.trajectory = recorder.finish(
            *self._final_conds,
            bank,
            sampler=sampler_name(sampler),
            switch_sigma=switch,
            schedule=tuple(sigmas[:-1].tolist()),
            seed=seed,
            vanilla_positive=self._vanilla_conds[0],
            vanilla_negative=self._vanilla_conds[1],
        )
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
        kinds = ("vanilla model" if s > run.switch_sigma else "personalized model" for s in sigmas[:-1].tolist())
        Live(self.notices).steps(kinds)
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
        # The host has repeated the mask for every channel and does so again; it also computes kwargs again.
        mask = None if denoise_mask is None else denoise_mask[:, :1]
        return self.second.around(vanilla_run, noise, latent_image, sampler, sigmas, mask, callback, disable_pbar, seed)

    def outer_predict_noise(self, x, timestep, model_options={}, seed=None):
        run = self._run
        assert run is not None
        if run.vanilla_calls is None and float(timestep.max()) <= run.switch_sigma:
            assert run.started is not None and self.recorder is not None
            run.vanilla_calls = len(self.recorder)
            self.model_patcher.clean_hooks()  # before other patches change the same weights
            self.second.load(run.started)
        if run.vanilla_calls is None:
            return super().outer_predict_noise(x, timestep, model_options, seed)
        return self.second.predict_in_place(x, timestep, model_options, seed)

    def _tell_size(self, latent_image: torch.Tensor, steps: int) -> None:
        """Tells how much RAM the features of record_blocks take."""
        if not self._recorded:
            return
        images, height, width = latent_image.shape[0], latent_image.shape[-2], latent_image.shape[-1]
        sides = 1 if math.isclose(self.cfg, 1.0) else 2
        one = features_size(self.model_patcher, (height, width), layers_of(self._recorded), self.node)
        tell_size(f"the features of record_blocks in {steps} steps", one * images * sides * steps, self.notices)

    def ended_with(self, samples: torch.Tensor) -> bool:
        """True where the last run ended with these samples, [images, channels, height, width]."""
        last = self._result
        if last is None or samples.shape != last.shape:
            return False
        return torch.allclose(samples.cpu(), last.to("cpu", samples.dtype), rtol=0, atol=0, equal_nan=True)

    def _report(self, run: _Run, trajectory: Trajectory) -> None:
        first = len(trajectory) if run.vanilla_calls is None else run.vanilla_calls
        second = len(trajectory) - first
        logging.info(
            "%s: %d calls of the vanilla model, then %d of the personalized one; trajectory of %s",
            self.node,
            first,
            second,
            trajectory.describe(),
        )
        if self.switch.percent is not None:
            steps = trajectory.schedule
            before = sum(sigma > run.switch_sigma for sigma in steps)
            self.notices.inform(f"switch_percent {self.switch.percent:g} is {before} of {len(steps)} steps.")
        if math.isfinite(run.switch_sigma) and not (first and second):
            idle, change = ("personalized", "lower") if first else ("vanilla", "raise")
            widget = "switch_step" if self.switch.percent is None else "switch_percent"
            self.notices.tell(
                f"the {idle} model did nothing, because no step of this run lies in its part of sampling; {change} "
                f"{widget}."
            )


@dataclass
class _Run:
    """The state of one sampling run. vanilla_calls: None until the switch."""

    switch_sigma: float
    vanilla_calls: int | None = None
    started: Started | None = None

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
        """A SAMPLER_SAMPLE wrapper that keeps the sampler's arguments."""
        options = comfy.model_patcher.create_model_options_clone(extra_args["model_options"])
        self.started = Started(
            options=options,
            sigmas=sigmas,
            seed=extra_args.get("seed"),
            noise=noise,
            latent_image=latent_image,
            denoise_mask=denoise_mask,
        )
        return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *args, **kwargs)


@dataclass(frozen=True)
class _Steps:
    """The host's callback after the first model call of each step: tells the recorder, then the node."""

    recorder: TrajectoryRecorder
    callback: Callable | None

    def __call__(self, *args, **kwargs) -> None:
        self.recorder.step()
        if self.callback is not None:
            self.callback(*args, **kwargs)


def recorded(guider: comfy.samplers.CFGGuider, latent: dict) -> Trajectory:
    """The trajectory of the run of `guider` that gave `latent`.

    Raises ValueError for another guider, one that has not sampled, and the latent of another run.
    """
    node = "Recorded Layout"
    if not isinstance(guider, StepBlendedGuider):
        raise ValueError(
            f"{node}: expected the guider of Two-Model Guider, got {type(guider).__name__}; connect that node."
        )
    if guider.trajectory is None:
        raise ValueError(
            f"{node}: expected a guider that has sampled, got one that has not; "
            "connect the output of the SamplerCustomAdvanced that uses this guider to latent."
        )
    if not guider.ended_with(latent["samples"]):
        raise ValueError(
            f"{node}: expected the latent of this guider's last run, got another one; connect the output (not "
            "denoised_output) of the SamplerCustomAdvanced that uses it, and give each sampler a guider of its own."
        )
    return guider.trajectory
