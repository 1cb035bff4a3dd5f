"""Inputs common to JointImageSampler and LikenessJointGuider, and the guider made from them."""

from __future__ import annotations

from typing import Any

from ..patching.features.positions import BESIDE, POSITIONS
from ..patching.host.notices import Notices
from ..patching.jedi.build import AUTOMATIC, POLARITIES, Widgets, check_blocks, check_guidance, joint_guider
from ..patching.jedi.format import ORDERS
from ..patching.jedi.guider import JointGuider
from ..patching.jedi.run import NOISES, PRESETS
from ..patching.subject.sockets import SOCKET, check_beside, set_members
from ._api import ADVANCED, DIAL, ReferenceType, SubjectPromptType, SubjectType, io, window_inputs
from ._sampling import cfg_input
from ._validate import check, in_options, linked, valid


def set_inputs() -> list:
    """The model and the prompts of a set."""
    return [
        io.Model.Input(
            "model",
            tooltip=(
                "JeDi: a joint checkpoint of nine input channels. Any other checkpoint shares attention without "
                "training, which is less faithful."
            ),
        ),
        io.Conditioning.Input(
            "positive",
            tooltip="The prompts: a list with one per picture, such as from Prompt List, or one prompt for all.",
        ),
        io.Conditioning.Input(
            "negative",
            tooltip="The negative prompt of all pictures. Neutral: an empty prompt, as in the paper.",
        ),
    ]


def joint_cfg_input() -> io.Input:
    """The `cfg` widget."""
    return cfg_input(
        "Classifier-free guidance scale: of text and references together (joint), otherwise of the text. Neutral: "
        "1, which saves a model pass; text_first and image_first also need image_cfg 1. The paper gives no value; "
        "7.5 is usual for SD 1.x."
    )


def coupling_inputs() -> list:
    """The other required widgets."""
    return [
        io.Combo.Input(
            "guidance",
            options=list(PRESETS),
            default=PRESETS[0],
            tooltip=(
                "How cfg and image_cfg apply. joint: text and references together (the paper's equation 3). "
                "text_first: text by cfg, then references by image_cfg. image_first: references by image_cfg, then "
                "text by cfg (both equation 4, three passes). text_only: text by cfg, references in both passes. "
                "Without references, use joint."
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
                "Guidance scale of the references in text_first and image_first; higher is closer to the subject. "
                "Neutral: the value of cfg, which makes both equal to joint. No effect in joint and text_only. The "
                "paper gives no value."
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
                "How strongly the pictures of the set attend to each other and to the references. Neutral: 0, every "
                "picture is independent. The paper: 1."
            ),
        ),
        io.String.Input(
            "blocks",
            default="all",
            tooltip=(
                "Blocks in which pictures attend to each other: names (output6), ranges (output3-8), lists, encoder, "
                "decoder, all. Transformers: double3-10, single0-37, early, late, vital, content. vital and content "
                "are published sets of Flux.1, also for Chroma, and late for all others. automatic: all for a joint "
                "checkpoint, decoder for any other U-Net, the single blocks of Flux and Chroma, late for any other "
                "transformer. Neutral: empty. The paper: all."
            ),
        ),
        io.Combo.Input(
            "reference_noise",
            options=list(NOISES),
            default=NOISES[0],
            **ADVANCED,
            tooltip=(
                "How references are noised. fresh: new noise at every level, our reading of the paper's replacement "
                "trick. fixed: the same noise at every level. never: noised once, then denoised with the other "
                "pictures. The paper does not say which. No neutral value."
            ),
        ),
        io.Combo.Input(
            "channel_order",
            options=[AUTOMATIC, *ORDERS],
            default=AUTOMATIC,
            **ADVANCED,
            tooltip=(
                "Order of a joint checkpoint's nine input channels. Neutral: automatic, the order that the checkpoint "
                "states; set another only if it states none. The paper: mask, noisy, clean."
            ),
        ),
    ]


def optional_inputs() -> list:
    """References, captions and the widgets that differ from the paper."""
    return [
        io.MultiType.Input(
            "references",
            [ReferenceType, io.Latent, SubjectType],
            optional=True,
            tooltip=(
                "Pictures of the subject, of any size: a REFERENCE, with captions and masks, a LATENT, or a SUBJECT "
                "with vae and subject_prompt. Neutral: not connected, the pictures agree on a new subject."
            ),
        ),
        io.Conditioning.Input(
            "caption",
            optional=True,
            tooltip=(
                "The caption of all references, or a list with one for each. Neutral: not connected, every REFERENCE "
                "keeps its own caption, a SUBJECT has the neutral text of subject_prompt, and a LATENT gets the "
                "negative prompt."
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
                "Share of every picture that is hidden from the others, redrawn in every step. It keeps layouts "
                "different on checkpoints that were not trained on sets. Neutral: 0, as in JeDi. ConsiStory: 0.5."
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
                "Share of the queries that is taken from the uncoupled picture, so that it keeps its own layout; costs "
                "one more pass. Neutral: 0, as in JeDi. ConsiStory: 0.9."
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
            tooltip="Part of sampling at which query_blend ends. Neutral: 0. ConsiStory: 0.1.",
        ),
        io.Combo.Input(
            "mask_polarity",
            options=list(POLARITIES),
            default=POLARITIES[0],
            optional=True,
            **ADVANCED,
            tooltip=(
                "Meaning of a joint checkpoint's mask channel; only used if channel_order is not automatic. Neutral: "
                "1 is missing, as in the paper."
            ),
        ),
        io.Clip.Input(
            "clip",
            optional=True,
            tooltip=(
                "The model's text encoder, which gives a LATENT of references the empty prompt as its caption. "
                "Neutral: not connected, a LATENT gets the negative prompt."
            ),
        ),
        io.Combo.Input(
            "positions",
            display_name="Positions of other pictures",
            options=list(POSITIONS),
            default=BESIDE,
            optional=True,
            **ADVANCED,
            tooltip=(
                "Where a transformer such as Flux or Z-Image sees the other pictures. beside: to the right of its own. "
                "index: as further pictures. same: in its own place, so that equal places mix. No effect in U-Nets "
                "and SD 3.5. JeDi has no such networks; its neutral value would be same."
            ),
        ),
        io.Vae.Input(
            "vae", optional=True, tooltip="The model's VAE, for a SUBJECT. Neutral: not connected, without a SUBJECT."
        ),
        SubjectPromptType.Input(
            "subject_prompt",
            optional=True,
            tooltip=(
                "From Subject Prompt, for a SUBJECT: its neutral text is the caption, and its words find the subject "
                "where no mask is given. Neutral: not connected, without a SUBJECT."
            ),
        ),
    ]


def one(node: str, name: str, value: list) -> Any:
    """The single value of an input: the host gives list nodes a list for every input.

    Raises ValueError for more or fewer values.
    """
    if len(value) != 1:
        raise ValueError(f"{node}: expected one {name}, got a list of {len(value)}; connect a single one.")
    return value[0]


def guider_of(
    node: str,
    *,
    model: list,
    positive: list,
    negative: list,
    references: list | None,
    caption: list | None,
    widgets: dict[str, list],
    told: Notices,
    clip: list | None = None,
    vae: list | None = None,
    subject_prompt: list | None = None,
) -> JointGuider:
    """The guider of a node's inputs. Raises ValueError as `build.joint_guider` and `set_members`."""
    values = {name: one(node, name, widgets[name]) for name in Widgets.__dataclass_fields__ if widgets.get(name)}
    network = one(node, "model", model)
    known = set_members(
        references or (),
        network,
        one(node, "vae", vae) if vae else None,
        one(node, "subject_prompt", subject_prompt) if subject_prompt else None,
        node=node,
        notices=told,
    )
    return joint_guider(
        network,
        prompts=positive,
        negative=one(node, "negative", negative),
        references=known,
        captions=caption or (),
        widgets=Widgets(**values),
        node=node,
        notices=told,
        clip=one(node, "clip", clip) if clip else None,
    )


def valid_set(
    cls: type[io.ComfyNode], node: str, guidance: list | None, blocks: list | None, input_types: list | None
) -> bool | str:
    """The result of `validate_inputs` for lists of one value, as the host gives them to a node that takes lists."""
    types, chosen = (input_types or [{}])[0], guidance and guidance[0]
    beside = {name: name in types for name in ("vae", "subject_prompt")}
    return valid(
        check(in_options, cls, guidance=chosen),
        check(linked, cls, types),
        check(check_guidance, chosen, "references" in types, node),
        check(check_blocks, blocks and blocks[0], node),
        check(check_beside, types.get("references") == SOCKET, beside, node),
    )
