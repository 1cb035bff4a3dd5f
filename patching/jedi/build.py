"""From the widgets of JointImageSampler and LikenessJointGuider to a guider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from comfy.patcher_extension import WrappersMP

from ..features.references import References
from ..host.blocks import parse
from ..host.checks import check_text, single
from ..host.families import discover
from ..host.passes import GUIDANCE_FUNCTIONS
from ..host.run import KEY
from ..host.window import Window
from .format import ATTACHMENT, IN_CHANNELS, JointFormat
from .guider import JointGuider
from .members import known_members
from .run import IMAGE_FIRST, JOINT, TEXT_FIRST, JointSettings

AUTOMATIC = "automatic"
ONE_IS_MISSING, ONE_IS_GIVEN = POLARITIES = ("1 is missing", "1 is given")


@dataclass(frozen=True)
class Widgets:
    """The widgets that both nodes have, in their order."""

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


def joint_guider(
    model,
    prompts: Sequence[list],
    negative: list,
    references: Sequence[References | dict],
    captions: Sequence[list],
    widgets: Widgets,
    node: str,
    pictures: int | None = None,
) -> JointGuider:
    """references, captions: as `joint_members.known_members` takes them. pictures: of a set, None is the whole batch
    that is sampled.

    Raises ValueError in one sentence.
    """
    available = discover(model, node)
    known = known_members(model, references, captions, negative, node)
    if widgets.guidance != JOINT and not known:
        # Without references there is no image to guide by: three of the four presets would be one.
        raise ValueError(
            f"{node}: expected references for guidance {widgets.guidance}, got none; connect references, or set "
            f"guidance to {JOINT}."
        )
    for prompt in prompts:
        single(prompt, node)
        check_text(model, prompt, "prompt", node)
    single(negative, node, "negative prompt")
    check_text(model, negative, "negative prompt", node)
    for item in known:
        check_text(model, item.conditioning, "caption", node)
    _refuse_others(model, widgets.guidance, node)
    settings = JointSettings(
        widgets.guidance,
        widgets.image_cfg,
        widgets.strength,
        parse(widgets.blocks, available, node),
        Window(widgets.start_percent, widgets.end_percent),
        widgets.reference_noise,
        widgets.token_dropout,
        widgets.query_blend,
        widgets.query_blend_end,
        format_of(model, widgets.channel_order, widgets.mask_polarity, node),
        pictures,
    )
    if known and not settings.shares(len(prompts) + len(known)):
        known = ()
    guider = JointGuider(model, settings, prompts, negative, known, node)
    guider.set_cfg(widgets.cfg)
    return guider


def _refuse_others(model, guidance: str, node: str) -> None:
    """Raises ValueError for what else is on a MODEL that cannot act on a set."""
    if model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY):
        raise ValueError(
            f"{node}: expected a model without MultiSourceAttnSwap and UREMDGuidance, which know single pictures and "
            "no sets, got one with them; remove these nodes from model."
        )
    functions = [name for name in GUIDANCE_FUNCTIONS if model.model_options.get(name)]
    if guidance in (TEXT_FIRST, IMAGE_FIRST) and functions:
        raise ValueError(
            f"{node}: expected a model without another guidance function for guidance {guidance}, which has three "
            f"predictions, got one with {', '.join(functions)}; remove that node (such as RescaleCFG) from model, or "
            f"set guidance to {JOINT}."
        )


def format_of(model, channel_order: str, mask_polarity: str, node: str) -> JointFormat | None:
    """How a MODEL wants its input: what its checkpoint says or what the widgets say; None for a model of four channels."""
    channels = model.get_model_object("diffusion_model").in_channels
    told: JointFormat | None = model.get_attachment(ATTACHMENT)
    latent = model.get_model_object("latent_format").latent_channels
    if channel_order == AUTOMATIC and mask_polarity != ONE_IS_MISSING and (told is None or told.one_is_missing):
        raise ValueError(
            f"{node}: expected mask_polarity {ONE_IS_MISSING} with channel_order {AUTOMATIC}, which does as the "
            f"checkpoint says, got {mask_polarity}; set mask_polarity to {ONE_IS_MISSING}, or set channel_order."
        )
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
        if told is None:
            raise ValueError(
                f"{node}: expected a joint checkpoint that tells the order of its {IN_CHANNELS} input channels, got "
                "one that does not, as an inpainting checkpoint, which knows no sets, would; load it with "
                "LikenessLoadJointCheckpoint, or set channel_order."
            )
        return told
    asked = JointFormat(channel_order, mask_polarity == ONE_IS_MISSING)
    if told is not None and told != asked:
        raise ValueError(
            f"{node}: expected the channel order of the checkpoint, {told.channel_order}, and its mask, got "
            f"{channel_order}, {mask_polarity}; set channel_order to {AUTOMATIC}."
        )
    return asked
