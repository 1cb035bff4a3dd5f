"""Builds a palette (Pick-and-Draw, arXiv 2401.16762, eq. 4-5) from pictures and the widgets of AppearancePalette."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..features.kept import kept_with
from ..features.pictures import references
from ..features.references import INVERSION_STEPS, OWN_SIZE, TRAINING_SIZE, Reference, References
from ..host.blocks import check_names, parse
from ..host.checks import check_vae, empty_prompt, given_clip, image_latent, single
from ..host.families import discover, family_of, presets
from ..host.family import COARSE, CROSS_INPUT, CROSS_OUTPUT, KEYS, MIDDLE, SELF_INPUT
from ..host.identity import identity_of
from ..host.notices import Notices
from ..host.window import Window, check_window
from ..host.words import find_word, same_text
from .null_text import NULL_TEXT, STEPS
from .palette import NODE, Palette, fill
from .previews import preview_palette
from .saliency import saliency_map, saliency_mask
from .subject import Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

AVERAGE, PER_LEVEL = "average", "per_level"
"""Saliency masks: one from an average over noise levels, or one of each level."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The pictures of a palette: an IMAGE with its VAE or a LATENT, and a MASK of the subject or the words for it.

    text, word: the caption, and its words that stand for the subject; conditioning: the caption encoded, or None;
    threshold, map_blocks: of the saliency mask, and the blocks whose attention makes it. size: TRAINING_SIZE or
    OWN_SIZE, of an IMAGE. inversion_steps: the fewest of an inversion.
    """

    text: str
    word: str
    threshold: float
    map_blocks: str = "paper"
    image: torch.Tensor | None = None
    latent: dict | None = None
    vae: VAE | None = None
    mask: torch.Tensor | None = None
    conditioning: list | None = None
    size: str = TRAINING_SIZE
    inversion_steps: int = INVERSION_STEPS


class Made(NamedTuple):
    """A palette, the masks of the pictures just added, and a preview.

    mask: [pictures, height, width]; preview: [pictures, height, width, 3] in 0..1, shows masks and features.
    """

    palette: Palette
    mask: torch.Tensor
    preview: torch.Tensor


def build_palette(
    model: ModelPatcher,
    clip: CLIP | None,
    picture: Picture,
    *,
    source: str,
    seed: int,
    weight: float,
    blocks: str,
    window: Window,
    sigmas: torch.Tensor | None = None,
    more: Palette | None = None,
    features: str = SELF_INPUT,
    saliency: str = AVERAGE,
    notices: Notices | None = None,
    node: str = NODE,
) -> Made:
    """Builds a palette of `picture`, added to those of the palette `more`.

    source: INVERTED, NOISED or NULL_TEXT; sigmas: noise levels to compute features for now, None leaves that to the
    first run; features: one of `host.family.FEATURES`; saliency: AVERAGE or PER_LEVEL; node: the
    name in messages. Raises ValueError in one sentence.
    """
    # A subject has no widgets for these, whatever node its messages name.
    check_names(blocks, NODE, paper=True, needed=True)
    check_window(window.start_percent, window.end_percent, NODE)
    told = notices or Notices(node)
    _check_features(model, features, node)
    chosen = parse(blocks, discover(model, node), NODE, presets(model, MIDDLE, node))
    if picture.conditioning is None or picture.mask is None:
        clip = given_clip(clip, node)
    conditioning = picture.conditioning or clip.encode_from_tokens_scheduled(clip.tokenize(picture.text))
    single(conditioning, node)
    if picture.conditioning is not None and picture.mask is None:
        _check_caption(clip, picture, told, node)
    made = _references(model, picture, conditioning, source=source, seed=seed, weight=weight, node=node)
    subject = None
    if picture.mask is None:
        found = [_with_saliency(model, clip, item, picture, node) for item in made.items]
        made = kept_with(_pixels(picture), found, node)
        subject = _subject(model, clip, picture, node) if saliency == PER_LEVEL else None
    elif saliency == PER_LEVEL:
        told.tell("expected no mask with saliency per_level, got one, which holds at all levels; disconnect mask.")
    empty = None
    if source == NULL_TEXT:
        empty = empty_prompt(clip, node)
        told.inform(
            f"null_text takes up to {STEPS} gradients per noise level and picture in the first guided run, on the demo "
            "model 42 times the time of inverted."
        )
    names, family = tuple(block.name for block in chosen), family_of(model, node).name
    shown = preview_palette(model, made, chosen, features, picture.vae, node)
    masks = torch.stack([item.mask for item in made.items if item.mask is not None])
    subjects: tuple[Subject | None, ...] = (subject,) * len(made.items)
    if more is not None:
        _check_alike(more, names, family, window=window, features=features)
        subjects = (*(more.subject(i) for i in range(len(more.references.items))), *subjects)
        made, empty = References((*more.references.items, *made.items)), empty or more.empty_prompt
    palette = Palette(
        made,
        names,
        family,
        context=conditioning[0][0].shape[-1],
        window=window,
        kind=features,
        subjects=subjects if any(subjects) else (),
        empty_prompt=empty,
    )
    if sigmas is not None:
        _fill_ahead(palette, model, sigmas, told)
    return Made(palette, masks, shown)


def _check_features(model: ModelPatcher, features: str, node: str) -> None:
    """Raises ValueError for features that a MODEL's family does not have."""
    family = family_of(model, node)
    if family.lends == KEYS and features == CROSS_INPUT:
        raise ValueError(
            f"{NODE}: expected features {SELF_INPUT} or {CROSS_OUTPUT} for a {family.name} model, whose text and "
            f"picture share one attention, got {features}; change features."
        )


def _check_alike(more: Palette, blocks: tuple[str, ...], family: str, *, window: Window, features: str) -> None:
    """Raises ValueError where a palette cannot be extended by one of these blocks, features and this window."""
    if (more.blocks, more.family) != (blocks, family):
        raise ValueError(
            f"{NODE}: expected palettes of the same blocks, got {', '.join(more.blocks)} and {', '.join(blocks)}; "
            "set one text for blocks on both nodes."
        )
    if more.kind != features:
        raise ValueError(
            f"{NODE}: expected palettes of the same features, got {more.kind} in more and {features} here; set "
            "features alike on both nodes."
        )
    if more.window != window:
        raise ValueError(
            f"{NODE}: expected palettes for the same part of sampling, got one for {more.window.start_percent:g} "
            f"to {more.window.end_percent:g} in more and {window.start_percent:g} to {window.end_percent:g} here; "
            "set start_percent and end_percent alike on both nodes."
        )


def _fill_ahead(palette: Palette, model: ModelPatcher, sigmas: torch.Tensor, notices: Notices) -> None:
    """Computes the features of all levels of a schedule that the palette's window holds."""
    schedule = [float(s) for s in sigmas if s > 0]
    inside = palette.window.resolve(model.get_model_object("model_sampling"))
    levels = [s for s in schedule if inside.contains(s)]
    if not levels:
        raise ValueError(
            f"{NODE}: expected noise levels between start_percent and end_percent in sigmas, got none of "
            f"{len(schedule)}; connect the sampler's SIGMAS, widen the window, or disconnect sigmas."
        )
    identity = identity_of(model)
    if not identity.lasts:
        raise ValueError(
            f"{NODE}: expected a model that a later run can recognize, got one with {', '.join(identity.unknown)}; "
            "disconnect sigmas, so that each run computes its features, or remove the node that adds it from model."
        )
    fill(palette, model, levels, schedule, NODE, identity=identity, notices=notices)


def _references(
    model: ModelPatcher, picture: Picture, conditioning: list, *, source: str, seed: int, weight: float, node: str
) -> References:
    """One reference per image or latent of the picture's batch, with its mask where there is one."""
    check_pictures(picture.image is not None, picture.latent is not None)
    if picture.image is not None:
        check_vae(model, picture.vae, node)
        return references(
            picture.image,
            picture.vae,
            conditioning,
            kind=source,
            seed=seed,
            mask=picture.mask,
            weight=weight,
            node=node,
            fits=picture.size != OWN_SIZE,
            inversion_steps=picture.inversion_steps,
        ).fitted(model, node)
    assert picture.latent is not None
    samples = image_latent(model, picture.latent, node)
    masks = _masks_of(picture.mask, samples, node)
    latents = [{"samples": samples[i : i + 1]} for i in range(len(samples))]
    items = [
        Reference(latent, conditioning, kind=source, seed=seed, mask=mask, weight=weight)
        for latent, mask in zip(latents, masks, strict=True)
    ]
    return kept_with(_pixels(picture), items, node)


def _pixels(picture: Picture) -> torch.Tensor:
    """The tensor that the node was given."""
    if picture.image is not None:
        return picture.image
    assert picture.latent is not None
    return picture.latent["samples"]


def check_pictures(image: bool, latent: bool, subject: bool = False) -> None:
    """Raises ValueError unless there is exactly one of them."""
    given = [name for name, there in (("image", image), ("latent", latent), ("subject", subject)) if there]
    if len(given) != 1:
        raise ValueError(
            f"{NODE}: expected a picture, as image with vae or as latent, got {' and '.join(given) or 'neither'}; "
            "connect one of them, or a subject with vae."
        )


def _masks_of(mask: torch.Tensor | None, samples: torch.Tensor, node: str) -> list[torch.Tensor | None]:
    """The mask of each latent, [height, width] on the CPU; raises ValueError for an empty one."""
    if mask is None:
        return [None] * len(samples)
    mask = mask[None] if mask.ndim == 2 else mask
    empty = mask.amax((1, 2)) < 0.5
    if len(mask) not in (1, len(samples)) or bool(empty.any()):
        raise ValueError(
            f"{node}: expected a mask with the subject in it for each of {len(samples)} pictures, got {len(mask)} "
            f"masks, {int(empty.sum())} of them empty; connect another mask or none."
        )
    return [mask[min(i, len(mask) - 1)].float().cpu() for i in range(len(samples))]


def _with_saliency(model: ModelPatcher, clip: CLIP | None, item: Reference, picture: Picture, node: str) -> Reference:
    """The reference with the saliency mask of its subject's words (eq. 4), one average over noise levels."""
    heat = saliency_map(
        model,
        clip,
        item.latent,
        text=picture.text,
        word=picture.word,
        blocks=picture.map_blocks,
        seed=item.seed,
        node=node,
    )
    mask = saliency_mask(heat, picture.threshold, picture.word, node)
    return Reference(
        item.latent,
        item.conditioning,
        kind=item.kind,
        seed=item.seed,
        mask=mask,
        weight=item.weight,
        inversion_steps=item.inversion_steps,
    )


def _subject(model: ModelPatcher, clip: CLIP | None, picture: Picture, node: str) -> Subject:
    """The words and maps that mark the subject at each noise level (eq. 4)."""
    chosen = parse(picture.map_blocks, discover(model, node), node, presets(model, COARSE, node))
    words = find_word(given_clip(clip, node), picture.text, picture.word, node)
    return Subject(words, picture.threshold, tuple(block.name for block in chosen))


def _check_caption(clip: CLIP | None, picture: Picture, told: Notices, node: str) -> None:
    """Tells of a conditioning that is not the caption's, in which the words are looked for."""
    caption = given_clip(clip, node).encode_from_tokens_scheduled(clip.tokenize(picture.text))
    assert picture.conditioning is not None
    if not same_text(caption[0][0], picture.conditioning[0][0]):
        told.tell(
            "expected conditioning to encode text, got another caption, so the words may be looked for in wrong "
            "places; write its caption into text, or disconnect conditioning."
        )
