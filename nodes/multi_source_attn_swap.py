"""MultiSourceAttnSwap: stage 2 of Layout-and-Retouch, the retouch of a layout image with references."""

from __future__ import annotations

from ..patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from ..patching.features.positions import BESIDE, INDEX, SAME
from ..patching.host.blocks import check_names
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import (
    APPEND,
    FORK,
    NODE,
    NONE,
    QK_BOTH,
    QK_SELF,
    QKV_BOTH,
    REPLACE,
    STEP,
    RetouchSettings,
)
from ._api import (
    ADVANCED,
    DIAL,
    GUIDE,
    TELLS,
    AdaptiveMaskType,
    ReferenceType,
    Trajectory,
    io,
    notices,
    output,
    schema,
    window_inputs,
)
from ._lambdas import check_lambdas, percent_inputs, step_inputs
from ._validate import check, in_options, in_range, linked, valid


class MultiSourceAttnSwap(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MultiSourceAttnSwap",
            display_name="Reference Retouch (Layout-and-Retouch)",
            category=GUIDE,
            description=(
                "Retouches a layout image: sampling with this model follows the layout first, then takes the "
                "subject's look from the reference's self-attention, and keeps the layout's background under a mask."
            ),
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The model with the subject's LoRA or fine-tune. Connect the output to any sampler.",
                ),
                ReferenceType.Input("reference", tooltip="The subject's picture or pictures, from Reference Picture."),
                io.MultiType.Input(
                    "layout",
                    [Trajectory, ReferenceType],
                    optional=True,
                    tooltip=(
                        "The layout image: the TRAJECTORY of the Two-Model Sampler, or a REFERENCE of any picture. "
                        "Neutral: not connected."
                    ),
                ),
                io.MultiType.Input(
                    "mask",
                    [AdaptiveMaskType, io.Mask],
                    optional=True,
                    tooltip=(
                        "The subject in the layout image, from Adaptive Mask or any MASK: outside it the layout's "
                        "features are kept. Neutral: not connected."
                    ),
                ),
                io.Combo.Input(
                    "early_swap",
                    options=[FORK, QKV_BOTH, QK_BOTH, QK_SELF, NONE],
                    default=FORK,
                    tooltip=(
                        "How the target follows the layout before lambda_2. fork, our shortcut: it is the layout "
                        "until then, with its noise and its guidance, which costs nothing. qkv_both: queries, keys and "
                        "values of all self- and cross-attention, our reading of the paper, with vanilla_model; "
                        "qk_both: without values; qk_self: queries and keys of self-attention. On transformers, "
                        "qk_both is qk_self. Neutral: none."
                    ),
                ),
                *step_inputs(),
                io.String.Input(
                    "blocks",
                    default="paper",
                    tooltip=(
                        "Blocks in which the reference and the mask act: names (output6), ranges (output6-11), lists, "
                        "encoder, decoder, all. paper: layers 10 to 15 of SD 1.x in call order. Transformers: "
                        "double3-10, single0-37, early, late, vital, content. vital, content and paper are published "
                        "sets of Flux.1, also for Chroma, and late for all others. Neutral: empty."
                    ),
                ),
                io.Combo.Input(
                    "attention",
                    options=[REPLACE, APPEND],
                    default=REPLACE,
                    tooltip=(
                        "replace: the reference's keys and values instead of the target's own, as in the paper. "
                        "append: both, which changes less and keeps the background; the reference's weight sets its "
                        "share."
                    ),
                ),
                io.Combo.Input(
                    "mode",
                    options=[BANKED, SEQUENTIAL, BATCHED],
                    default=BANKED,
                    **ADVANCED,
                    tooltip=(
                        "Source of the reference's features; the picture is the same. banked: cached in RAM from run "
                        "to run, so that another seed or prompt costs nearly nothing. sequential: recomputed in a call "
                        "before each step, for little memory; on transformers, whose features are large, it saves much "
                        "RAM. batched: in the same call, for a GPU with room."
                    ),
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    **DIAL,
                    tooltip=(
                        "Strength of the whole change. Neutral: 0, the model as it came. The paper: 1. Below 1 the "
                        "sampler's own noise is kept, and fork mixes the layout's answers with the model's."
                    ),
                ),
                *window_inputs(),
                io.Conditioning.Input(
                    "layout_negative",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "The negative prompt for a layout that is a REFERENCE. Neutral: not connected, its own prompt "
                        "serves both sides."
                    ),
                ),
                io.Float.Input(
                    "bank_limit",
                    default=0.0,
                    min=0.0,
                    max=1024.0,
                    step=0.1,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "GiB of RAM for the features of mode banked. Those that need more are recomputed in every run, "
                        "as in mode sequential. Neutral: 0, half of the free RAM."
                    ),
                ),
                io.Model.Input(
                    "vanilla_model",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "The vanilla model of the Two-Model Sampler, for the paper's layout path with qkv_both, "
                        "qk_both or qk_self. It makes the layout's vanilla steps once more before each run. Their "
                        "attention is kept in RAM meanwhile, for SD 1.x at 512 pixels about 90 MiB per step. "
                        "Neutral: not connected."
                    ),
                ),
                io.Conditioning.Input(
                    "vanilla_conditioning",
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "The vanilla model's prompt, positive of the Two-Model Sampler. Neutral: not connected, "
                        "the prompt that the TRAJECTORY recorded."
                    ),
                ),
                *percent_inputs(),
                io.Combo.Input(
                    "positions",
                    options=[BESIDE, SAME, INDEX],
                    default=BESIDE,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Transformers with rotary positions (Flux, Qwen-Image, Z-Image, Krea 2, Anima): where the "
                        "reference stands. beside: right of the picture. index: the next picture of a series. same: "
                        "on the picture's own places, where keys of one place collide. Neutral: same. U-Nets and "
                        "SD 3.5 ignore it. Not in the paper."
                    ),
                ),
                io.Int.Input(
                    "reference_every",
                    default=1,
                    min=1,
                    max=100,
                    optional=True,
                    **ADVANCED,
                    tooltip=(
                        "Number of noise levels that share one reading of the reference. 2 halves the RAM of mode "
                        "banked, and the first run's calls of the reference. Mode batched then reads as sequential. "
                        "Neutral and paper: 1, each level has its own."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(
                    "model",
                    display_name="MODEL",
                    tooltip=(
                        "The model that retouches. As we read the paper, it is sampled with the neutral prompt (a "
                        "photo of a sks dog); the layout's own prompt works too."
                    ),
                )
            ],
            hidden=TELLS,
        )

    @classmethod
    def validate_inputs(
        cls,
        early_swap=None,
        lambda_2=None,
        lambda_3=None,
        blocks=None,
        lambdas_by=STEP,
        lambda_2_percent=0.2,
        lambda_3_percent=0.2,
        positions=BESIDE,
        reference_every=1,
        input_types=None,
    ) -> bool | str:
        types = input_types or {}
        numbers = {
            "lambda_2": lambda_2,
            "lambda_3": lambda_3,
            "lambda_2_percent": lambda_2_percent,
            "lambda_3_percent": lambda_3_percent,
        }
        return valid(
            check(in_options, cls, early_swap=early_swap, lambdas_by=lambdas_by, positions=positions),
            check(in_range, cls, reference_every=reference_every, **numbers),
            check(linked, cls, types),
            check(check_names, blocks, NODE, paper=True),
            check(check_lambdas, early_swap, {"lambdas_by": lambdas_by, **numbers}, types),
        )

    @classmethod
    def execute(
        cls,
        model,
        reference,
        layout=None,
        mask=None,
        layout_negative=None,
        vanilla_model=None,
        vanilla_conditioning=None,
        **widgets,
    ) -> io.NodeOutput:
        settings = RetouchSettings(**widgets)
        told = notices(cls)
        made = retouch(
            model,
            reference,
            layout=layout,
            mask=mask,
            settings=settings,
            layout_negative=layout_negative,
            notices=told,
            vanilla_model=vanilla_model,
            vanilla_conditioning=vanilla_conditioning,
        )
        return output(told, made)
