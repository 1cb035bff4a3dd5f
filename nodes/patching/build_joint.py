"""From the widgets of JointImageSampler and LikenessJointGuider to a guider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .blocks import parse
from .checks import check_text
from .families import discover
from .joint_format import ATTACHMENT, IN_CHANNELS, JointFormat
from .joint_guider import JointGuider
from .joint_members import known_members
from .joint_run import JOINT, JointSettings
from .references import References, single
from .window import Window

AUTOMATIC = "automatic"


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


def joint_guider(
    model, prompts: Sequence[list], negative: list, references: References | dict | None, caption: list | None, widgets: Widgets, node: str
) -> JointGuider:
    """Raises ValueError in one sentence."""
    available = discover(model, node)
    known = known_members(model, references, caption, negative, node)
    if widgets.guidance != JOINT and not known:
        # Without references there is no image to guide by: three of the four presets would be one.
        raise ValueError(
            f"{node}: expected references for guidance {widgets.guidance}, got none; connect references, or set guidance to {JOINT}."
        )
    for prompt in prompts:
        single(prompt, node)
        check_text(model, prompt, "prompt", node)
    check_text(model, negative, "negative prompt", node)
    for item in known:
        check_text(model, item.conditioning, "reference", node)
    settings = JointSettings(
        widgets.guidance, widgets.image_cfg, widgets.strength, parse(widgets.blocks, available, node),
        Window(widgets.start_percent, widgets.end_percent), widgets.reference_noise, widgets.token_dropout, widgets.query_blend,
        widgets.query_blend_end, format_of(model, widgets.channel_order, node),
    )  # fmt: skip
    if known and not settings.shares(len(prompts) + len(known)):
        known = ()
    guider = JointGuider(model, settings, prompts, negative, known, node)
    guider.set_cfg(widgets.cfg)
    return guider


def format_of(model, channel_order: str, node: str) -> JointFormat | None:
    """How a MODEL wants its input: what its checkpoint says or what the widget says; None for a model of four channels."""
    channels = model.get_model_object("diffusion_model").in_channels
    told: JointFormat | None = model.get_attachment(ATTACHMENT)
    latent = model.get_model_object("latent_format").latent_channels
    if channels == latent:
        if channel_order != AUTOMATIC:
            raise ValueError(
                f"{node}: expected a joint checkpoint of {IN_CHANNELS} input channels for channel_order {channel_order}, got a model of "
                f"{channels}; set channel_order to {AUTOMATIC}, or connect another model."
            )
        return None
    if channels != IN_CHANNELS:
        raise ValueError(
            f"{node}: expected a model of {latent} input channels or a joint checkpoint of {IN_CHANNELS}, got one of {channels}; "
            "connect another model."
        )
    if channel_order == AUTOMATIC:
        if told is None:
            raise ValueError(
                f"{node}: expected a joint checkpoint that tells the order of its {IN_CHANNELS} input channels, got one that does not, as "
                "an inpainting checkpoint, which knows no sets, would; load it with LikenessLoadJointCheckpoint, or set channel_order."
            )
        return told
    if told is not None and told.channel_order != channel_order:
        raise ValueError(
            f"{node}: expected the channel order of the checkpoint, {told.channel_order}, got {channel_order}; "
            f"set channel_order to {AUTOMATIC}."
        )
    return JointFormat(channel_order)
