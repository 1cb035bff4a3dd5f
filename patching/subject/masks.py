"""Masks of a subject in its photographs: given ones, else from the model's attention or Segment Anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ..features.fitting import uncropped
from ..features.pictures import cropped_size, references
from ..features.references import NOISED, OWN_SIZE, Reference
from ..host.checks import check_vae, given_vae
from ..host.identity import identity_of
from ..host.prompt import SubjectPrompt, SubjectText
from ..layout_and_retouch import segment
from ..pick_and_draw.saliency import saliency_map, saliency_mask
from .subject import ATTENTION, NODE, WHOLE, Photos, Subject

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE


def given_masks(photos: Photos) -> torch.Tensor | None:
    """The masks [n, height, width] that photographs came with, and whole pictures for those without one.

    None where none has a mask.
    """
    return None if all(mask is None for mask in photos.masks) else _stacked(photos, photos.masks)


def found_masks(
    subject: Subject, model: ModelPatcher | None, vae: VAE | None, prompt: SubjectPrompt | None, node: str
) -> list[torch.Tensor | None]:
    """The masks of each input's photographs, [n, height, width], None for whole pictures.

    The model's attention to the caption's words finds those that are not given, in four model calls each, once per
    model. Raises ValueError where it finds none, and without the model and the prompt that it takes.
    """
    if not subject.searched:
        return [given_masks(part) for part in subject.photos]
    model, prompt = _finders(model, prompt, node)
    said, vae, identity = subject.caption(prompt), given_vae(vae, node), identity_of(model)
    check_vae(model, vae, node)
    found: list[list[torch.Tensor | None]] = subject.keep(
        ("masks", identity.name, vae, prompt.clip, said),
        lambda: [_searched(subject, part, model, vae, prompt, said) for part in subject.photos],
        identity.lasts,
    )
    masks = []
    for part, own in zip(subject.photos, found, strict=True):
        each = [
            given if mask is None else _of_photo(mask, part, vae) for given, mask in zip(part.masks, own, strict=True)
        ]
        masks.append(_stacked(part, each))
    return masks


def _finders(model: ModelPatcher | None, prompt: SubjectPrompt | None, node: str) -> tuple[ModelPatcher, SubjectPrompt]:
    if model is None or prompt is None:
        missing = [name for name, given in (("model", model), ("subject_prompt", prompt)) if given is None]
        raise ValueError(
            f"{node}: expected model and subject_prompt, which find the subject in photographs without a mask, got no "
            f"{' and no '.join(missing)}; connect them, give {NODE} masks, or set its area to {WHOLE}."
        )
    return model, prompt


def _stacked(photos: Photos, masks) -> torch.Tensor:
    whole = torch.ones(photos.images.shape[1:3])
    return torch.stack([whole if mask is None else mask for mask in masks])


def _of_photo(mask: torch.Tensor, photos: Photos, vae: VAE) -> torch.Tensor:
    """A mask of a fitted photograph as one of the photograph."""
    (height, width), (rows, columns) = photos.images.shape[1:3], cropped_size(photos.images, vae)
    top, left = (height - rows) // 2, (width - columns) // 2
    inner = uncropped(mask, rows, columns)
    return F.pad(inner, (left, width - columns - left, top, height - rows - top))


def _searched(
    subject: Subject, photos: Photos, model: ModelPatcher, vae: VAE, prompt: SubjectPrompt, said: SubjectText
) -> list[torch.Tensor | None]:
    """The mask of each fitted photograph, None for those with a given one."""
    fits = subject.size != OWN_SIZE
    shown = references(photos.images, vae, prompt.neutral_conditioning, NOISED, 0, node=NODE, fits=fits)
    return [
        _search(subject, item.fitted(model, NODE), model, prompt, said) if mask is None else None
        for item, mask in zip(shown.items, photos.masks, strict=True)
    ]


def _search(
    subject: Subject, item: Reference, model: ModelPatcher, prompt: SubjectPrompt, said: SubjectText
) -> torch.Tensor:
    heat = saliency_map(
        model,
        prompt.clip,
        item.latent,
        text=said.text,
        word=said.word,
        blocks=subject.map_blocks,
        seed=item.seed,
        node=NODE,
    )
    if subject.area == ATTENTION:
        return saliency_mask(heat, subject.threshold, said.word, NODE)
    assert item.image is not None
    prompts = segment.prompts(item.image, heat, threshold=subject.threshold, inside="", outside="", box="")
    return segment.segment(segment.load(subject.area), item.image, prompts)[0]
