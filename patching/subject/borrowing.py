"""References, palettes and set members of a subject, each made by the function of the node for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from ..features.bank import digest_of
from ..features.pictures import references
from ..features.references import INVERTED, NOISED, OWN_SIZE, Reference, References
from ..host.checks import given_vae
from ..host.families import family_of
from ..host.family import KEYS, SELF_INPUT
from ..host.identity import identity_of
from ..host.notices import Heard, Notices
from ..host.prompt import SubjectPrompt
from ..host.window import ALWAYS
from ..pick_and_draw.build_palette import AVERAGE, Made, Picture, build_palette
from ..pick_and_draw.palette import Palette
from .masks import found_masks, given_masks
from .subject import ATTENTION, NODE, Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE


_PALETTE: dict[str, Any] = {
    "source": INVERTED,
    "seed": 0,
    "weight": 1.0,
    "blocks": "paper",
    "window": ALWAYS,
    "features": SELF_INPUT,
    "saliency": AVERAGE,
}
"""Settings of a palette, those of AppearancePalette, that decide what is kept of it."""


def reference_of(
    subject: Subject,
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt,
    *,
    source: str = INVERTED,
    seed: int = 0,
    weight: float = 1.0,
    node: str = NODE,
    notices: Notices | None = None,
) -> References:
    """References as a chain of LikenessReference gives them for the photographs, with the neutral caption.

    model: the one that attention is read from, to find the subject. node: the one that model, vae and prompt are
    connected to, for messages. Raises ValueError for a photograph in which the words find nothing.
    """
    return pictures_of(
        subject,
        vae,
        prompt.neutral_conditioning,
        model=model,
        prompt=prompt,
        source=source,
        seed=seed,
        weight=weight,
        node=node,
        notices=notices,
    )


def pictures_of(
    subject: Subject,
    vae: VAE | None,
    caption: list,
    *,
    model: ModelPatcher | None = None,
    prompt: SubjectPrompt | None = None,
    source: str = INVERTED,
    seed: int = 0,
    weight: float = 1.0,
    node: str = NODE,
    notices: Notices | None = None,
) -> References:
    """References as `reference_of`, with the caption of LikenessReference.

    model, prompt: needed where the subject has to be found in photographs. Raises ValueError without them.
    """
    vae = given_vae(vae, node)
    return _references(
        subject,
        vae,
        caption,
        found_masks(subject, model, vae, prompt, node),
        notices,
        weight,
        kind=source,
        seed=seed if source == NOISED else 0,
        inversion_steps=subject.inversion_steps,
    )


def palette_of(
    subject: Subject,
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt,
    *,
    node: str = NODE,
    notices: Notices | None = None,
    **widgets: Any,
) -> Palette:
    """Palettes as a chain of AppearancePalette gives them for the photographs, with the neutral caption.

    model: the one that will be guided. widgets: those of `kept_pictures`.
    """
    return kept_pictures(subject, model, vae, prompt, node=node, notices=notices, **widgets).palette


def kept_pictures(
    subject: Subject,
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt,
    *,
    node: str = NODE,
    notices: Notices | None = None,
    **widgets: Any,
) -> Made:
    """The palette of all photographs, with masks and previews scaled to the first one's size.

    widgets: AppearancePalette's from source on; those left out are of its defaults. Kept as long as the subject, since
    each mask costs four model calls. A palette with noise levels or another palette is made anew.
    """
    identity, given = identity_of(model), _PALETTE | {k: v for k, v in widgets.items() if v is not None}
    told = notices or Notices(node)

    def make() -> tuple[Made, Heard]:
        heard = Heard(told)
        return _palette_pictures(subject, model, vae, prompt, node=node, notices=heard, **given), heard

    made, heard = subject.keep(
        ("palette", identity.name, vae, prompt.clip, subject.caption(prompt), tuple(sorted(given.items()))),
        make,
        identity.lasts and given.keys() == _PALETTE.keys(),
    )
    heard.repeat(told)
    return made


def _palette_pictures(
    subject: Subject,
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt,
    *,
    node: str,
    notices: Notices,
    sigmas: torch.Tensor | None = None,
    more: Palette | None = None,
    **settings: Any,
) -> Made:
    vae, said = given_vae(vae, node), subject.caption(prompt)
    own = subject.area == ATTENTION and all(given_masks(part) is None for part in subject.photos)
    masks = [None] * len(subject.photos) if own else found_masks(subject, model, vae, prompt, node)
    parts: list[Made] = []
    for part, mask in zip(subject.photos, masks, strict=True):
        last = len(parts) + 1 == len(subject.photos)
        picture = Picture(
            text=said.text,
            word=said.word,
            threshold=subject.threshold,
            map_blocks=subject.map_blocks,
            image=part.images,
            vae=vae,
            mask=torch.ones(part.images.shape[:3]) if mask is None and not own else mask,
            size=subject.size,
            inversion_steps=subject.inversion_steps,
        )
        made = build_palette(
            model,
            prompt.clip,
            picture,
            sigmas=sigmas if last else None,
            more=parts[-1].palette if parts else more,
            notices=notices,
            node=NODE,
            **settings,
        )
        parts.append(made)
    return Made(
        parts[-1].palette,
        _alike([part.mask[..., None] for part in parts])[..., 0],
        _alike([part.preview for part in parts]),
    )


def _alike(pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Pictures [n, height, width, channels] in one batch, at the first one's size."""
    size = pictures[0].shape[1:3]
    planes = [p.movedim(-1, 1).float() for p in pictures]
    scaled = [p if p.shape[2:] == size else F.interpolate(p, size, mode="area") for p in planes]
    return torch.cat(scaled).movedim(1, -1)


def members_of(
    subject: Subject,
    model: ModelPatcher,
    vae: VAE | None,
    prompt: SubjectPrompt,
    *,
    caption: list | None = None,
    node: str = NODE,
    notices: Notices | None = None,
) -> References:
    """Members for `references` of JointImageSampler, as a chain of LikenessReference with source noised gives them.

    caption: CONDITIONING of all photographs; None: the prompt's neutral wording. A joint checkpoint sees whole
    photographs unless masks are given, as it was trained; any other model those parts that show the subject.
    """
    vae, captions = given_vae(vae, node), caption or prompt.neutral_conditioning
    masks = (
        [given_masks(part) for part in subject.photos]
        if reads_more(model)
        else found_masks(subject, model, vae, prompt, node)
    )
    return _references(subject, vae, captions, masks, notices, kind=NOISED, seed=0)


def reads_more(model: ModelPatcher) -> bool:
    """True for a U-Net that reads more channels than a latent has, as JeDi's does.

    A transformer's own count is that of the values in a token.
    """
    if family_of(model, NODE).lends == KEYS:
        return False
    network, latent = model.get_model_object("diffusion_model"), model.get_model_object("latent_format")
    return bool(network.in_channels != latent.latent_channels)


def _references(
    subject: Subject,
    vae: VAE,
    conditioning: list,
    masks: Sequence[torch.Tensor | None],
    notices: Notices | None,
    weight: float = 1.0,
    **settings: Any,
) -> References:
    """One References for each key, whatever their weight, so that another weight keeps inversions and features."""
    fits, told = subject.size != OWN_SIZE, notices or Notices(NODE)

    def make() -> References:
        items: list[Reference] = []
        for part, mask in zip(subject.photos, masks, strict=True):
            items += references(part.images, vae, conditioning, mask=mask, node=NODE, fits=fits, **settings).items
        return References(tuple(items))

    areas = tuple(None if mask is None else digest_of([[mask, {}]]) for mask in masks)
    made = subject.keep(("references", vae, digest_of(conditioning), areas, *settings.values()), make)
    return References(tuple(replace(item, weight=weight, notices=told) for item in made.items))
