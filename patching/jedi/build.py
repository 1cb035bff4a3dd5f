"""Builds a guider from the widgets of JointImageSampler and LikenessJointGuider, after checking them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from comfy.patcher_extension import WrappersMP

from ..features.positions import BESIDE
from ..features.references import References
from ..host.blocks import check_names, parse
from ..host.checks import check_text, empty_prompt, single
from ..host.families import discover, family_of
from ..host.family import KEYS
from ..host.notices import Notices
from ..host.passes import GUIDANCE_FUNCTIONS
from ..host.run import KEY
from ..host.window import Window
from .format import ATTACHMENT, IN_CHANNELS, JointFormat
from .guider import JointGuider
from .members import known_members
from .run import IMAGE_FIRST, JOINT, TEXT_FIRST, TEXT_ONLY, JointSettings

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

AUTOMATIC = "automatic"
ALL, DECODER = "all", "decoder"
"""Blocks that AUTOMATIC stands for in a U-Net: of a checkpoint that was trained on sets, and of any other."""
ONE_IS_MISSING, ONE_IS_GIVEN = POLARITIES = ("1 is missing", "1 is given")


@dataclass(frozen=True)
class Widgets:
    """The widgets common to both nodes, in the nodes' order."""

    cfg: float
    guidance: str
    image_cfg: float
    strength: float
    blocks: str
    reference_noise: str
    channel_order: str
    start_percent: float = 0.0
    end_percent: float = 1.0
    token_dropout: float = 0.0
    query_blend: float = 0.0
    query_blend_end: float = 0.1
    mask_polarity: str = ONE_IS_MISSING
    positions: str = BESIDE


def joint_guider(
    model: ModelPatcher,
    *,
    prompts: Sequence[list],
    negative: list,
    references: Sequence[References | dict],
    captions: Sequence[list],
    widgets: Widgets,
    node: str,
    pictures: int | None = None,
    notices: Notices | None = None,
    clip: CLIP | None = None,
) -> JointGuider:
    """The guider of a set.

    prompts: one CONDITIONING per picture, or one for all.
    references, captions: see `members.known_members`.
    node: the node's name for messages.
    pictures: pictures per set, None for the whole batch.
    notices: those of the node, for warnings.
    clip: gives LATENTs the empty prompt as their caption, in place of the negative prompt.
    Raises ValueError for inputs that do not fit the model or each other.
    """
    available, told = discover(model, node), notices or Notices(node)
    known = known_members(model, references, captions, negative if clip is None else empty_prompt(clip, node), node)
    if clip is not None and (captions or all(isinstance(part, References) for part in references)):
        told.tell("no effect of clip, because no LATENT needs a caption from it; disconnect it.")
    check_guidance(widgets.guidance, bool(known), node)
    for prompt in prompts:
        single(prompt, node)
        check_text(model, prompt, "prompt", node)
    single(negative, node, "negative prompt")
    check_text(model, negative, "negative prompt", node)
    for item in known:
        check_text(model, item.conditioning, "caption", node)
    _refuse_other_patches(model, widgets.guidance, node)
    stated = format_of(model, widgets.channel_order, widgets.mask_polarity, node)
    blocks = widgets.blocks
    if _automatic(blocks):
        blocks, kind = automatic_blocks(model, stated is not None, node)
        told.inform(f"blocks {AUTOMATIC} is {blocks}, because model is {kind}.")
    settings = JointSettings(
        guidance=widgets.guidance,
        image_cfg=widgets.image_cfg,
        strength=widgets.strength,
        blocks=parse(blocks, available, node),
        window=Window(widgets.start_percent, widgets.end_percent),
        reference_noise=widgets.reference_noise,
        token_dropout=widgets.token_dropout,
        query_blend=widgets.query_blend,
        query_blend_end=widgets.query_blend_end,
        format=stated,
        pictures=pictures,
        positions=widgets.positions,
    )
    if known and not settings.shares(len(prompts) + len(known)):
        known = ()
    guider = JointGuider(
        model,
        settings=settings,
        prompts=prompts,
        negative=negative,
        references=known,
        node=node,
        notices=told,
    )
    guider.set_cfg(widgets.cfg)
    return guider


def automatic_blocks(model: ModelPatcher, trained: bool, node: str) -> tuple[str, str]:
    """The blocks that AUTOMATIC stands for, and the kind of model.

    trained: on sets. A transformer's are its blocks with one stream, if the first ones have two: AlignedGen's choice on
    Flux.1. For others no choice is published, so theirs are the later half.
    """
    if family_of(model, node).lends != KEYS:
        return (ALL, "a joint checkpoint") if trained else (DECODER, "no joint checkpoint")
    available = discover(model, node)
    single = [block.number for block in available if block.kind == "single"]
    if single and len(single) < len(available):
        return f"single{single[0]}-{single[-1]}", "a transformer"
    return "late", "a transformer"


def _automatic(blocks: str) -> bool:
    return blocks.strip().lower() == AUTOMATIC


def check_blocks(blocks: str, node: str) -> None:
    """Raises ValueError for text that is neither AUTOMATIC nor names blocks."""
    if not _automatic(blocks):
        check_names(blocks, node)


def check_guidance(guidance: str, known: bool, node: str) -> None:
    """Raises ValueError for guidance by references where none are known, which would silently equal JOINT."""
    if guidance != JOINT and not known:
        raise ValueError(
            f"{node}: expected references for guidance {guidance}, got none; connect references, or set guidance to "
            f"{JOINT}."
        )


def _refuse_other_patches(model: ModelPatcher, guidance: str, node: str) -> None:
    """Raises ValueError for a MODEL with patches that cannot act on a set."""
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        raise ValueError(
            f"{node}: expected a model without Reference Retouch or Subject Guidance, which only act on single "
            "pictures, got one that such a node has patched; connect the model from before that node."
        )
    functions = [name for name in GUIDANCE_FUNCTIONS if model.model_options.get(name)]
    replaced = model.model_options["transformer_options"].get("patches_replace", {}).get("attn1")
    if guidance == TEXT_ONLY and functions and replaced:
        raise ValueError(
            f"{node}: expected a model without guidance that reads attention for guidance {TEXT_ONLY}, whose pictures "
            f"look at each other in the negative pass too, got one with {', '.join(functions)}; remove that node (such "
            f"as SelfAttentionGuidance) from model, or set guidance to {JOINT}."
        )
    if guidance in (TEXT_FIRST, IMAGE_FIRST) and functions:
        raise ValueError(
            f"{node}: expected a model without another guidance function for guidance {guidance}, which has three "
            f"predictions, got one with {', '.join(functions)}; remove that node (such as RescaleCFG) from model, or "
            f"set guidance to {JOINT}."
        )


def format_of(model: ModelPatcher, channel_order: str, mask_polarity: str, node: str) -> JointFormat | None:
    """The input format that a MODEL's checkpoint states, else that of the widgets; None for a four-channel model.

    Raises ValueError if widgets, checkpoint and channel count contradict each other.
    """
    stated: JointFormat | None = model.get_attachment(ATTACHMENT)
    latent = model.get_model_object("latent_format").latent_channels
    if channel_order == AUTOMATIC and mask_polarity != ONE_IS_MISSING and (stated is None or stated.one_is_missing):
        raise ValueError(
            f"{node}: expected mask_polarity {ONE_IS_MISSING} with channel_order {AUTOMATIC}, which follows the "
            f"checkpoint, got {mask_polarity}; set mask_polarity to {ONE_IS_MISSING}, or set channel_order."
        )
    # A transformer's own count is that of the values in a token.
    transformer = family_of(model, node).lends == KEYS
    channels = latent if transformer else model.get_model_object("diffusion_model").in_channels
    if channels == latent:
        if channel_order != AUTOMATIC:
            raise ValueError(
                f"{node}: expected a joint checkpoint of {IN_CHANNELS} input channels for channel_order "
                f"{channel_order}, got a model of {channels}; set channel_order to {AUTOMATIC}, or connect another "
                "model."
            )
        return None
    if channels != IN_CHANNELS:
        raise ValueError(
            f"{node}: expected a model of {latent} input channels or a joint checkpoint of {IN_CHANNELS}, got one of "
            f"{channels}; connect another model."
        )
    if channel_order == AUTOMATIC:
        if stated is None:
            raise ValueError(
                f"{node}: expected a joint checkpoint that states the order of its {IN_CHANNELS} input channels, got "
                "one that does not, such as an inpainting checkpoint; load a joint checkpoint with "
                "Load Joint Checkpoint, or set channel_order."
            )
        return stated
    asked = JointFormat(channel_order, mask_polarity == ONE_IS_MISSING)
    if stated is not None and stated != asked:
        raise ValueError(
            f"{node}: expected the channel order of the checkpoint, {stated.channel_order}, and its mask, got "
            f"{channel_order}, {mask_polarity}; set channel_order to {AUTOMATIC}."
        )
    return asked
