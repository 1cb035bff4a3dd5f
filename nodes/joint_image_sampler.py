"""JointImageSampler, LikenessJointGuider, LikenessPromptList and LikenessLoadJointCheckpoint: JeDi."""

from __future__ import annotations

from typing import Any

import comfy.samplers
import folder_paths

from ..patching.jedi import checkpoint as joint_checkpoint
from ..patching.jedi.build import AUTOMATIC, POLARITIES, Widgets, joint_guider
from ..patching.jedi.format import ORDERS
from ..patching.jedi.run import NOISES, PRESETS
from ..patching.jedi.sampling import sample_set
from ._api import ADVANCED, CATEGORY, ReferenceType, io, schema, window_inputs


def _set_inputs() -> list:
    return [
        io.Model.Input(
            "model",
            tooltip=(
                "A joint checkpoint of nine input channels, which is JeDi; or any checkpoint, which shares attention "
                "without having been trained to: its training-free relative."
            ),
        ),
        io.Conditioning.Input(
            "positive",
            tooltip="The prompts: a list, one for every picture, as from Prompt List; or one prompt for all pictures.",
        ),
        io.Conditioning.Input(
            "negative", tooltip="What all pictures are steered away from. Neutral: an empty prompt, as in the paper."
        ),
    ]


def _guidance_inputs() -> list:
    return [
        io.Float.Input(
            "cfg",
            default=7.5,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip=(
                "Classifier-free guidance scale: of text and references together (joint), otherwise of the text. "
                "Neutral: 1, which makes one pass of the model (with text_first and image_first if image_cfg is 1, "
                "too). The paper's scale is not known; 7.5 is usual for SD 1.x."
            ),
        ),
        io.Combo.Input(
            "guidance",
            options=list(PRESETS),
            default=PRESETS[0],
            tooltip=(
                "What guidance strengthens. joint: text and references together, the paper's equation 3. text_first: "
                "text, then references on top of it by image_cfg; image_first: references by image_cfg, then text "
                "(equation 4, three passes). text_only: the text, with the references in both passes. Without "
                "references: joint."
            ),
        ),
        io.Float.Input(
            "image_cfg",
            default=7.5,
            min=0.0,
            max=100.0,
            step=0.1,
            round=0.01,
            tooltip=(
                "The references' guidance scale of text_first and image_first; higher is more of the subject. "
                "Neutral: the value of cfg, which makes both the same as joint. Without effect for joint and "
                "text_only."
            ),
        ),
        io.Float.Input(
            "strength",
            default=1.0,
            min=0.0,
            max=1.0,
            step=0.01,
            tooltip=(
                "How much the pictures of the set look at each other and at the references. Neutral: 0, every picture "
                "by itself. The paper: 1."
            ),
        ),
        io.String.Input(
            "blocks",
            default="all",
            tooltip=(
                "In which blocks the pictures look at each other: names (output6), ranges (output3-8), lists, "
                "encoder, decoder, all. Neutral: empty. The paper: all. Ours for a checkpoint that was not trained "
                "for sets: decoder."
            ),
        ),
        io.Combo.Input(
            "reference_noise",
            options=list(NOISES),
            default=NOISES[0],
            tooltip=(
                "How references get to each noise level. fresh: new noise at every level, our reading of the paper's "
                "replacement trick. fixed: the same noise. never: noised once, then denoised with the rest. The "
                "paper's kind is not known."
            ),
        ),
        io.Combo.Input(
            "channel_order",
            options=[AUTOMATIC, *ORDERS],
            default=AUTOMATIC,
            **ADVANCED,
            tooltip=(
                "How the nine input channels of a joint checkpoint follow each other; mask, noisy, clean is the "
                "paper's. automatic: as the checkpoint says. Only for checkpoints that do not say it."
            ),
        ),
    ]


def _optional_inputs() -> list:
    return [
        io.MultiType.Input(
            "references",
            [ReferenceType, io.Latent],
            optional=True,
            tooltip=(
                "The subject's pictures, of any size: a REFERENCE, with captions and masks, or a LATENT. Neutral: not "
                "connected, the pictures share what they make up."
            ),
        ),
        io.Conditioning.Input(
            "caption",
            optional=True,
            tooltip=(
                "The caption of all references, or a list of one for each. Neutral: not connected, each has its own; "
                "those of a LATENT then have the negative prompt."
            ),
        ),
        *window_inputs(),
        io.Float.Input(
            "token_dropout",
            default=0.0,
            min=0.0,
            max=0.95,
            step=0.01,
            optional=True,
            **ADVANCED,
            tooltip=(
                "Which part of every picture the others do not look at, another one in every step, so that layouts "
                "stay apart on checkpoints that were not trained for sets. Neutral: 0, as in JeDi. ConsiStory: 0.5."
            ),
        ),
        io.Float.Input(
            "query_blend",
            default=0.0,
            min=0.0,
            max=1.0,
            step=0.01,
            optional=True,
            **ADVANCED,
            tooltip=(
                "How much of the queries comes from every picture by itself, at the cost of a pass, so that it keeps "
                "its own layout. Neutral: 0, as in JeDi. ConsiStory: 0.9."
            ),
        ),
        io.Float.Input(
            "query_blend_end",
            default=0.1,
            min=0.0,
            max=1.0,
            step=0.001,
            optional=True,
            **ADVANCED,
            tooltip="Until which part of sampling queries are blended. Neutral: 0. ConsiStory: 0.1.",
        ),
        io.Combo.Input(
            "mask_polarity",
            options=list(POLARITIES),
            default=POLARITIES[0],
            optional=True,
            **ADVANCED,
            tooltip=(
                "What the mask of a joint checkpoint says, where channel_order is not automatic. Neutral: 1 is "
                "missing, as in the paper."
            ),
        ),
    ]


def _one(node: str, name: str, value: list) -> Any:
    """The value of an input that is not a list: the host gives a node of lists a list of every input."""
    if len(value) != 1:
        raise ValueError(f"{node}: expected one {name}, got a list of {len(value)}; connect a single one.")
    return value[0]


def _widgets(node: str, given: dict[str, list]) -> Widgets:
    return Widgets(**{name: _one(node, name, given[name]) for name in Widgets.__dataclass_fields__ if given.get(name)})


def _guider(
    node: str, model: list, positive: list, negative: list, references: list | None, caption: list | None, widgets: dict
):
    single = (_one(node, "model", model), positive, _one(node, "negative", negative))
    return joint_guider(*single, references or (), caption or (), _widgets(node, widgets), node)


class JointImageSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="JointImageSampler",
            display_name="Joint Image Sampler (JeDi)",
            category=CATEGORY,
            description=(
                "Denoises a set of pictures together, one for every prompt, so that they show one subject: that of "
                "the references, or one that they make up together."
            ),
            search_aliases=["jedi", "joint diffusion", "consistent character", "reference images", "story"],
            is_input_list=True,
            inputs=[
                *_set_inputs(),
                io.Latent.Input(
                    "latent",
                    tooltip="The size of the pictures: an empty latent of one, or of as many as there are prompts.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip=(
                        "The first picture's seed, the next has the next one; a list has one for every picture. Each "
                        "draws what KSampler draws for its seed; what a sampler adds on its way comes from the "
                        "smallest."
                    ),
                ),
                io.Int.Input(
                    "steps",
                    default=50,
                    min=1,
                    max=10000,
                    tooltip="How many sampling steps; the paper's number is not known.",
                ),
                *_guidance_inputs()[:1],
                io.Combo.Input(
                    "sampler",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="ddim",
                    tooltip="Any sampler. Ours for the paper: ddim.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="ddim_uniform",
                    tooltip="Any scheduler. Ours for the paper: ddim_uniform.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="How much of the noise schedule is run. Neutral: 1, from pure noise, as in the paper.",
                ),
                *_guidance_inputs()[1:],
                *_optional_inputs(),
            ],
            outputs=[
                io.Latent.Output(
                    "latent", display_name="LATENT", tooltip="One picture for every prompt, in their order."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        model,
        positive,
        negative,
        latent,
        seed,
        steps,
        sampler,
        scheduler,
        denoise,
        references=None,
        caption=None,
        **widgets,
    ) -> io.NodeOutput:
        node = "JointImageSampler"
        guider = _guider(node, model, positive, negative, references, caption, widgets)
        made = sample_set(
            guider,
            _one(node, "latent", latent),
            len(positive),
            seed,
            _one(node, "steps", steps),
            _one(node, "sampler", sampler),
            _one(node, "scheduler", scheduler),
            _one(node, "denoise", denoise),
            node,
        )
        return io.NodeOutput(made)


class LikenessJointGuider(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessJointGuider",
            display_name="Joint Guider (JeDi)",
            category=CATEGORY,
            description=(
                "The joint image sampler as a guider for SamplerCustomAdvanced, with any sampler, noise and sigmas; "
                "its latent has as many pictures as there are prompts."
            ),
            search_aliases=["jedi", "joint diffusion"],
            is_input_list=True,
            inputs=[*_set_inputs(), *_guidance_inputs(), *_optional_inputs()],
            outputs=[io.Guider.Output("guider", display_name="GUIDER", tooltip="Connect it to SamplerCustomAdvanced.")],
        )

    @classmethod
    def execute(cls, model, positive, negative, references=None, caption=None, **widgets) -> io.NodeOutput:
        return io.NodeOutput(_guider("LikenessJointGuider", model, positive, negative, references, caption, widgets))


class LikenessPromptList(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessPromptList",
            display_name="Prompt List",
            category=CATEGORY,
            description=(
                "Several prompts, one per line, each encoded by itself: one for every picture of the Joint Image "
                "Sampler."
            ),
            search_aliases=["multiple prompts", "prompt batch", "story"],
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the model that samples."),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="",
                    tooltip="One prompt per line; empty lines are left out. There is no neutral value.",
                ),
                io.String.Input(
                    "prefix",
                    default="",
                    optional=True,
                    tooltip="What every prompt begins with, such as the subject: 'a photo of a cat'. Neutral: empty.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(
                    "prompts", display_name="PROMPTS", is_output_list=True, tooltip="The prompts, in their order."
                ),
            ],
        )

    @classmethod
    def execute(cls, clip, text: str, prefix: str = "") -> io.NodeOutput:
        return io.NodeOutput(joint_checkpoint.encode_lines(clip, text, prefix))


class LikenessLoadJointCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="LikenessLoadJointCheckpoint",
            display_name="Load Joint Checkpoint (JeDi)",
            category=CATEGORY,
            description="Loads a joint checkpoint of nine input channels whose metadata tells their order.",
            search_aliases=["jedi", "load checkpoint"],
            inputs=[
                io.Combo.Input(
                    "ckpt_name",
                    options=folder_paths.get_filename_list("checkpoints") or [joint_checkpoint.NO_FILES],
                    tooltip="A file in ComfyUI's models/checkpoints.",
                ),
            ],
            outputs=[
                io.Model.Output("model", display_name="MODEL", tooltip="The joint model, for the Joint Image Sampler."),
                io.Clip.Output("clip", display_name="CLIP", tooltip="Its text encoder."),
                io.Vae.Output("vae", display_name="VAE", tooltip="Its autoencoder."),
            ],
        )

    @classmethod
    def execute(cls, ckpt_name: str) -> io.NodeOutput:
        return io.NodeOutput(*joint_checkpoint.load(ckpt_name))
