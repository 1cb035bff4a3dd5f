"""Checks of inputs before sampling starts, used by several nodes. All raise ValueError with one sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

    from .family import Family

_TEXT_WIDTHS = ("context_dim", "context_in_dim", "cap_feat_dim", "joint_attention_dim")
"""Names of the width of text features in the host's configurations: of U-Nets, Flux, Z-Image and Qwen-Image."""


def check_latent(samples: torch.Tensor, node: str, model: ModelPatcher | None = None) -> None:
    """Raises ValueError for anything but images: [batch, channels, height, width], or with one frame before the height.

    model: the MODEL that shall sample it, which may have no frames; None where unknown.
    """
    if getattr(samples, "is_nested", False):
        raise ValueError(
            f"{node}: expected a LATENT of images, got a nested latent of several parts; connect an image model's "
            "latent."
        )
    framed = samples.ndim == 5 and (model is None or has_frames(model))
    if framed and samples.shape[2] != 1:
        raise ValueError(
            f"{node}: expected a LATENT of images, got a video of {samples.shape[2]} frames; connect an image model's "
            "latent, or make the latent with a length of 1."
        )
    if samples.ndim != 4 and not framed:
        raise ValueError(
            f"{node}: expected a LATENT of shape [batch, channels, height, width], got {samples.ndim} dimensions "
            f"{tuple(samples.shape)}; connect an image model's latent."
        )


def has_frames(model: ModelPatcher) -> bool:
    """True for a MODEL whose latents have a frame axis, such as Qwen-Image."""
    return getattr(model.get_model_object("latent_format"), "latent_dimensions", 2) == 3


def check_models(vanilla: ModelPatcher, personalized: ModelPatcher, node: str) -> None:
    """Raises ValueError if two MODELs cannot take turns on one latent."""
    family = "connect a personalized_model made from the same family as model"
    for what, of, advice in (
        ("latent format", _latent_format, family),
        ("prediction type", describe_sampling, family),
        ("device", lambda m: str(m.load_device), "load both models on the same device"),
    ):
        first, second = of(vanilla), of(personalized)
        if first != second:
            raise ValueError(f"{node}: expected models with one {what}, got {first} and {second}; {advice}.")


def check_text(model: ModelPatcher, conditioning: list, what: str, node: str) -> None:
    """Raises ValueError for a CONDITIONING encoded for another model family.

    what: its name in the message, such as "prompt".
    """
    config = model.model.model_config.unet_config
    width = next((config[name] for name in _TEXT_WIDTHS if config.get(name) is not None), None)
    got = conditioning[0][0].shape[-1] if conditioning else None
    if width is not None and got is not None and width != got:
        raise ValueError(
            f"{node}: expected a {what} made with this model's own text encoder, whose features are {width} wide, got "
            f"{got}; connect a {what} made with a checkpoint of this model's family."
        )


def refuse_reference_latents(family: Family, conds: Mapping[str, list | None], node: str) -> None:
    """Raises ValueError for prompts with reference latents in a network where these come before the picture.

    conds: the guider's conditionings. Such references move the picture and the prompt's words to unknown places.
    """
    entries = [entry for found in conds.values() for entry in found or ()]
    if family.places_by_text and any(entry.get("reference_latents") for entry in entries):
        raise ValueError(
            f"{node}: expected prompts without reference latents for a {family.name} model, whose picture they move, "
            "got some; remove the node that adds them (such as ReferenceLatent) from the sampler's prompts."
        )


def given_clip(clip: CLIP | None, node: str) -> CLIP:
    """The CLIP. Raises ValueError for None, which a checkpoint without text encoder gives."""
    if clip is None:
        raise ValueError(
            f"{node}: expected a CLIP, got none, as from a checkpoint without text encoder; connect a CLIP loader to "
            "clip."
        )
    return clip


def empty_prompt(clip: CLIP | None, node: str) -> list:
    """The CONDITIONING of a prompt without words. Raises ValueError as `given_clip` does."""
    clip = given_clip(clip, node)
    return clip.encode_from_tokens_scheduled(clip.tokenize(""))


def given_vae(vae: VAE | None, node: str) -> VAE:
    """The VAE. Raises ValueError for None, which a checkpoint without one gives."""
    if vae is None:
        raise ValueError(
            f"{node}: expected a VAE, got none, as from a checkpoint without one; connect a VAE loader to vae."
        )
    return vae


def check_vae(model: ModelPatcher, vae: VAE | None, node: str) -> None:
    """Raises ValueError for the VAE of a family with another number of latent channels; None passes.

    Families of one number, such as SD 1.x and SDXL, cannot be told apart.
    """
    channels, got = model.get_model_object("latent_format").latent_channels, getattr(vae, "latent_channels", None)
    if got is not None and got != channels:
        raise ValueError(
            f"{node}: expected a VAE of {channels} latent channels, as the model has, got one of {got}; connect this "
            "checkpoint's VAE."
        )


def check_count(got: int, pictures: int, what: str, node: str) -> None:
    """Raises ValueError unless there is one of `what`, such as "mask", or one for each picture."""
    if got not in (1, pictures):
        wanted = f"one {what}" if pictures == 1 else f"one {what}, or {pictures}, one for each picture"
        raise ValueError(f"{node}: expected {wanted}, got {got}; connect as many as there are pictures.")


def describe_sampling(model: ModelPatcher) -> str:
    """The prediction type of a MODEL, such as V_PREDICTION, including a patch that replaced it."""
    bases = type(model.get_model_object("model_sampling")).__mro__
    return next(base.__name__ for base in bases if "calculate_denoised" in vars(base))


def _latent_format(model: ModelPatcher) -> str:
    latent_format = model.get_model_object("latent_format")
    return (
        f"{type(latent_format).__name__} (scale {latent_format.scale_factor}, {latent_format.latent_channels} channels)"
    )


def single(conditioning: list, node: str, prompt: str = "prompt") -> None:
    """Raises ValueError for combined prompts, areas, masks, hooks or a ControlNet.

    prompt: its name in the message.
    """
    if len(conditioning) != 1:
        got = f"{len(conditioning)} combined" if conditioning else "none"
        raise ValueError(f"{node}: expected one {prompt}, got {got}; connect a single CLIPTextEncode.")
    extras = [
        name for name in ("control", "hooks", "area", "mask", "gligen") if conditioning[0][1].get(name) is not None
    ]
    if extras:
        raise ValueError(
            f"{node}: expected a plain {prompt}, got one with {', '.join(extras)}; connect the output of "
            "CLIPTextEncode itself."
        )


def image_latent(model: ModelPatcher, latent: dict, node: str) -> torch.Tensor:
    """The samples of a LATENT, [batch, channels, height, width], or [batch, channels, 1, height, width].

    The second shape is that of models whose latents have frames. Raises ValueError for an empty latent and for one of
    another model.
    """
    samples = latent["samples"]
    check_latent(samples, node, model)
    if samples.ndim == 4 and has_frames(model):
        samples = samples.unsqueeze(2)
    channels = model.get_model_object("latent_format").latent_channels
    if samples.shape[1] != channels:
        raise ValueError(
            f"{node}: expected a LATENT of {channels} channels, as the model has, got {samples.shape[1]}; connect a "
            "latent of this model."
        )
    if not torch.count_nonzero(samples):
        raise ValueError(
            f"{node}: expected the LATENT of a picture, got an empty one; connect the output of a KSampler or "
            "VAEEncode."
        )
    return samples
