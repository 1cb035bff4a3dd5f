"""StepBlendedSampler and LikenessStepBlendedGuider: stage 1 of Layout-and-Retouch."""

from __future__ import annotations

import comfy.samplers

from ..patching.host.passes import sample
from ..patching.layout_and_retouch.step_blended import StepBlendedGuider, Switch
from ._api import ADVANCED, CATEGORY, Trajectory, io, schema

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
            "personalized_positive", tooltip="The same prompt with the placeholder, encoded by the personalised CLIP."
        ),
        io.Conditioning.Input("negative", tooltip="What both models are steered away from; neutral: an empty prompt."),
    ]


def _cfg() -> io.Float.Input:
    return io.Float.Input(
        "cfg",
        default=7.5,
        min=0.0,
        max=100.0,
        step=0.1,
        round=0.01,
        tooltip=(
            "Classifier-free guidance scale of both models. Neutral: 1. The paper's scale is not known; 7.5 is usual "
            "for SD 1.x."
        ),
    )


def _switch_inputs() -> list:
    return [
        io.Combo.Input(
            "switch_by",
            options=[_STEP, _PERCENT],
            default=_STEP,
            tooltip="Which of the next two widgets counts: a number of steps (the paper's way), or a fraction of sampling.",
        ),
        io.Int.Input(
            "switch_step",
            default=5,
            min=0,
            max=10000,
            tooltip="tau: how many steps belong to the vanilla model. Neutral: 0, the personalised model alone. "
            "The paper uses 5 of 50; more follows the prompt better and the subject less.",
        ),
        io.Float.Input(
            "switch_percent",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.001,
            tooltip=(
                "The fraction of sampling that belongs to the vanilla model. Neutral: 0. The paper's 5 of 50 steps "
                "are 0.1."
            ),
        ),
    ]


def _negative_input() -> io.Conditioning.Input:
    return io.Conditioning.Input(
        "personalized_negative",
        optional=True,
        tooltip=(
            "The negative prompt encoded by the personalised CLIP; neutral: not connected, negative serves both models."
        ),
    )


def _record_input() -> io.String.Input:
    return io.String.Input(
        "record_blocks",
        default="",
        optional=True,
        **ADVANCED,
        tooltip=(
            "Whose self-attention to keep in the trajectory for Multi-Source Attention Swap, so that it need not be "
            "computed again: 'paper' for its default blocks. Neutral: empty. SD 1.x at 512 pixels takes about 24 MiB "
            "of RAM per step."
        ),
    )


def _switch(switch_by: str, switch_step: int, switch_percent: float, steps: int | None = None) -> Switch:
    return Switch(steps=switch_step, of=steps) if switch_by == _STEP else Switch(percent=switch_percent)


class StepBlendedSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="StepBlendedSampler",
            display_name="Step-Blended Sampler (Layout-and-Retouch)",
            category=CATEGORY,
            description="Samples with the vanilla model for the first steps, so that the prompt decides the layout, "
            "and with the personalised model from then on, in one continuous run.",
            search_aliases=["layout and retouch", "personalization", "two models"],
            inputs=[
                *_model_inputs(),
                io.Latent.Input(
                    "latent", tooltip="The latent to denoise: an empty one, or an image's with denoise below 1."
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="The seed of the noise; the same seed gives what KSampler draws.",
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=10000,
                    tooltip="How many sampling steps: the paper's 50; no neutral value.",
                ),
                _cfg(),
                io.Combo.Input(
                    "sampler",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip="Any sampler. The paper uses ddim.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="ddim_uniform",
                    tooltip="Any scheduler. The paper's DDIM steps are ddim_uniform.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the noise schedule is run. Neutral: 1, from pure noise, as in the paper.",
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
                    tooltip="Every (sigma, latent) that the models saw, in RAM.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        personalized_model,
        positive,
        personalized_positive,
        negative,
        latent,
        seed,
        steps,
        cfg,
        sampler,
        scheduler,
        denoise,
        switch_by,
        switch_step,
        switch_percent,
        personalized_negative=None,
        record_blocks="",
    ) -> io.NodeOutput:
        switch = _switch(switch_by, switch_step, switch_percent, steps)
        guider = StepBlendedGuider(model, personalized_model, switch, "StepBlendedSampler", record_blocks)
        guider.set_blended_conds(positive, personalized_positive, negative, personalized_negative)
        guider.set_cfg(cfg)
        samples = sample(guider, latent, seed, steps, sampler, scheduler, denoise, "StepBlendedSampler")
        return io.NodeOutput(samples, guider.trajectory)


class LikenessStepBlendedGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessStepBlendedGuider",
            display_name="Step-Blended Guider",
            category=CATEGORY,
            description="The step-blended sampler as a guider for SamplerCustomAdvanced, with any sampler, noise and sigmas.",
            inputs=[*_model_inputs(), _cfg(), *_switch_inputs(), _negative_input(), _record_input()],
            outputs=[io.Guider.Output("guider", display_name="GUIDER", tooltip="Connect it to SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(
        cls,
        model,
        personalized_model,
        positive,
        personalized_positive,
        negative,
        cfg,
        switch_by,
        switch_step,
        switch_percent,
        personalized_negative=None,
        record_blocks="",
    ) -> io.NodeOutput:
        switch = _switch(switch_by, switch_step, switch_percent)
        guider = StepBlendedGuider(model, personalized_model, switch, "LikenessStepBlendedGuider", record_blocks)
        guider.set_blended_conds(positive, personalized_positive, negative, personalized_negative)
        guider.set_cfg(cfg)
        return io.NodeOutput(guider)
