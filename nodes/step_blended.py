"""StepBlendedSampler and LikenessStepBlendedGuider: stage 1 of Layout-and-Retouch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patching.host.blocks import check_names
from ..patching.host.failures import leaving_nothing
from ..patching.host.passes import sample
from ..patching.layout_and_retouch.step_blended import StepBlendedGuider
from ..patching.layout_and_retouch.switch import Switch, check_step
from ._api import ADVANCED, SAMPLE, TELLS, Trajectory, io, notices, output, schema
from ._sampling import cfg_input, denoise_input, sampler_input, scheduler_input, seed_input, steps_input
from ._validate import check, in_options, in_range, valid

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

    from ..patching.host.notices import Notices

_STEP = "step"
_PERCENT = "percent"


def _model_inputs() -> list:
    return [
        io.Model.Input("model", tooltip="The vanilla model: it makes the layout in the first, noisiest steps."),
        io.Model.Input(
            "personalized_model", tooltip="The model with the subject's LoRA or fine-tune: it takes over at the switch."
        ),
        io.Conditioning.Input(
            "positive", tooltip="The prompt for the vanilla model, without the subject's placeholder word."
        ),
        io.Conditioning.Input(
            "personalized_positive", tooltip="The same prompt with the placeholder, encoded by the personalized CLIP."
        ),
        io.Conditioning.Input("negative", tooltip="The negative prompt of both models. Neutral: an empty prompt."),
    ]


def _cfg() -> io.Input:
    return cfg_input(
        "Classifier-free guidance scale of both models. Neutral: 1. The paper's scale is not known; 7.5 is usual "
        "for SD 1.x."
    )


def _switch_inputs() -> list:
    return [
        io.Combo.Input(
            "switch_by",
            options=[_STEP, _PERCENT],
            default=_STEP,
            tooltip=(
                "The widget that sets the switch: a number of steps (the paper's way), or a fraction of sampling, "
                "which also fits a run in several parts."
            ),
        ),
        io.Int.Input(
            "switch_step",
            default=5,
            min=0,
            max=10000,
            tooltip="tau: the number of steps of the vanilla model. Neutral: 0, the personalized model alone. "
            "The paper uses 5 of 50; more follows the prompt better and the subject less.",
        ),
        io.Float.Input(
            "switch_percent",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip=("The fraction of sampling with the vanilla model. Neutral: 0. The paper's 5 of 50 steps are 0.1."),
        ),
    ]


def _negative_input() -> io.Conditioning.Input:
    return io.Conditioning.Input(
        "personalized_negative",
        optional=True,
        tooltip=(
            "The negative prompt encoded by the personalized CLIP. Neutral: not connected, negative serves both models."
        ),
    )


def _record_input() -> io.String.Input:
    return io.String.Input(
        "record_blocks",
        default="",
        optional=True,
        **ADVANCED,
        tooltip=(
            "Blocks whose self-attention the trajectory keeps, so that Reference Retouch need not compute it "
            "again: 'paper' for its default blocks. Neutral: empty. SD 1.x at 512 pixels takes about 24 MiB "
            "of RAM per step."
        ),
    )


def _switch(by: str, step: int, percent: float, steps: int | None = None) -> Switch:
    return Switch(steps=step, of=steps) if by == _STEP else Switch(percent=percent)


def _guider(
    node: str,
    switch: Switch,
    told: Notices,
    *,
    model: ModelPatcher,
    personalized_model: ModelPatcher,
    positive: list,
    personalized_positive: list,
    negative: list,
    cfg: float,
    personalized_negative: list | None = None,
    record_blocks: str = "",
) -> StepBlendedGuider:
    guider = StepBlendedGuider(model, personalized_model, switch, node, record_blocks, told)
    guider.set_blended_conds(positive, personalized_positive, negative, personalized_negative)
    guider.set_cfg(cfg)
    return guider


class StepBlendedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="StepBlendedSampler",
            display_name="Two-Model Sampler (Layout-and-Retouch)",
            category=SAMPLE,
            description=(
                "Samples with the vanilla model first, so that the prompt decides the layout, then with the "
                "personalized model, in one continuous run."
            ),
            inputs=[
                *_model_inputs(),
                io.Latent.Input(
                    "latent", tooltip="The latent to denoise: an empty one, or an image's with denoise below 1."
                ),
                seed_input("The seed of the noise, which is the noise that KSampler draws."),
                steps_input("The number of sampling steps: the paper's 50; no neutral value."),
                _cfg(),
                sampler_input("Any sampler. The paper uses ddim."),
                scheduler_input("Any scheduler. The paper's DDIM steps are ddim_uniform."),
                denoise_input(
                    "The fraction of the noise schedule to run. Neutral: 1, from pure noise, as in the paper."
                ),
                *_switch_inputs(),
                _negative_input(),
                _record_input(),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="LATENT", tooltip="The layout image's latent."),
                Trajectory.Output(
                    "trajectory",
                    display_name="TRAJECTORY",
                    tooltip="Every (sigma, latent) of the model calls, in RAM.",
                ),
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, steps=None, switch_by=None, switch_step=None, record_blocks=None) -> bool | str:
        return valid(
            check(in_options, cls, switch_by=switch_by),
            check(in_range, cls, steps=steps, switch_step=switch_step),
            check(check_step, switch_step if switch_by == _STEP else None, steps, "Two-Model Sampler"),
            check(check_names, record_blocks, "Two-Model Sampler", "record_blocks", paper=True),
        )

    @classmethod
    @leaving_nothing()
    def execute(
        cls,
        latent,
        seed,
        steps,
        sampler,
        scheduler,
        denoise,
        switch_by,
        switch_step,
        switch_percent,
        **guided,
    ) -> io.NodeOutput:
        switch = _switch(switch_by, switch_step, switch_percent, steps)
        told = notices(cls)
        guider = _guider("Two-Model Sampler", switch, told, **guided)
        samples = sample(
            guider,
            latent,
            seed=seed,
            steps=steps,
            sampler=sampler,
            scheduler=scheduler,
            denoise=denoise,
            node="Two-Model Sampler",
        )
        return output(told, samples, guider.trajectory)


class LikenessStepBlendedGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessStepBlendedGuider",
            display_name="Two-Model Guider (Layout-and-Retouch)",
            category=SAMPLE,
            description="The Two-Model Sampler as a guider for SamplerCustomAdvanced, with any noise and sigmas.",
            inputs=[*_model_inputs(), _cfg(), *_switch_inputs(), _negative_input(), _record_input()],
            outputs=[io.Guider.Output("guider", display_name="GUIDER", tooltip="Connect it to SamplerCustomAdvanced.")],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(cls, record_blocks=None) -> bool | str:
        return valid(check(check_names, record_blocks, "Two-Model Guider", "record_blocks", paper=True))

    @classmethod
    def execute(cls, switch_by, switch_step, switch_percent, **guided) -> io.NodeOutput:
        switch = _switch(switch_by, switch_step, switch_percent)
        told = notices(cls)
        return output(told, _guider("Two-Model Guider", switch, told, **guided))
