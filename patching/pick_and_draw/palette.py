"""Palettes (Pick-and-Draw, arXiv 2401.16762, eq. 4-5): the subject's features in pictures of it, at every noise level
that is guided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F

from ...kernels.heatmaps import overlay, principal_colours
from ..features.bank import HIDDEN, Key, weights_of
from ..features.references import Reference, References, references
from ..features.sources import noised_source
from ..features.taps import BankSink, HiddenStateTap
from ..features.word_maps import word_maps
from ..host.attach import attach, bare
from ..host.blocks import Block, Layer, layers_of, parse
from ..host.checks import image_latent, single
from ..host.families import discover, family_of, preset
from ..host.family import COARSE, MIDDLE
from ..host.passes import Denoise, noise_levels, run_pass
from ..host.previews import captioned, pictures_of
from ..host.run import Call
from ..host.window import ALWAYS, Window

NODE = "AppearancePalette"
_MOST_PIXELS = 1024 * 1024
_LOOKS = 4
_WAY = 25
_LOOK_WINDOW = Window(0.2, 0.8)


@dataclass(frozen=True, eq=False)
class Palette:
    """References, each with the mask of its subject, and the blocks whose self-attention inputs are their features.

    blocks: names, in call order; family: of the model that it was made with; context: the width of its text features;
    window: outside of it nothing is kept.
    """

    references: References
    blocks: tuple[str, ...]
    family: str
    context: int
    window: Window = ALWAYS

    def __str__(self) -> str:
        return f"palette of {', '.join(self.blocks)}\n{self.references}"

    def features(self, weights: str, layer: Layer, sigma: float) -> list[tuple[torch.Tensor, float]]:
        """[tokens, channels] and weight of every reference at a noise level that `fill` has been at, on the CPU."""
        found = [
            (item.bank.get(Key(weights, HIDDEN, layer, True), sigma), item.weight) for item in self.references.items
        ]
        if any(values is None for values, _ in found):
            raise RuntimeError(
                f"{NODE}: expected features of {layer.kind}{layer.number} at noise level {sigma:g}, got none; compute "
                "them first."
            )
        return [(values[0], weight) for values, weight in found if values is not None]


@dataclass(frozen=True)
class Picture:
    """What a palette is made of: an IMAGE with its VAE or a LATENT, and a MASK of the subject or the words for it.

    text, word: the picture's caption and the words in it that stand for the subject; conditioning: the caption encoded,
    or None; threshold, map_blocks: of the saliency mask, and whose attention it is made of.
    """

    image: torch.Tensor | None
    latent: dict | None
    vae: object | None
    mask: torch.Tensor | None
    conditioning: list | None
    text: str
    word: str
    threshold: float
    map_blocks: str = "paper"


class Made(NamedTuple):
    """A palette, the masks [pictures, height, width] of the pictures just added, and RGB pictures that show masks and
    features."""

    palette: Palette
    mask: torch.Tensor
    preview: torch.Tensor


def build_palette(
    model,
    clip,
    picture: Picture,
    source: str,
    seed: int,
    weight: float,
    blocks: str,
    window: Window,
    sigmas=None,
    more: Palette | None = None,
) -> Made:
    """Raises ValueError in one sentence.

    sigmas: noise levels to compute features for at once, else they are computed by the first run that needs them.
    """
    chosen = parse(blocks, discover(model, NODE), NODE, preset(model, MIDDLE, NODE))
    if not chosen:
        raise ValueError(
            f"{NODE}: expected at least one block to take features from, got none; change blocks on this node."
        )
    if window.empty:
        raise ValueError(
            f"{NODE}: expected start_percent below end_percent, got an empty window; change them on this node."
        )
    if clip is None and (picture.conditioning is None or picture.mask is None):
        raise ValueError(
            f"{NODE}: expected a CLIP, got none, as from a checkpoint without text encoder; connect a CLIP loader to "
            "clip."
        )
    conditioning = picture.conditioning or clip.encode_from_tokens_scheduled(clip.tokenize(picture.text))
    single(conditioning, NODE)
    made = _references(model, clip, picture, conditioning, source, seed, weight)
    names, family = tuple(block.name for block in chosen), family_of(model, NODE).name
    shown = preview(model, made, chosen, picture.vae)
    masks = torch.stack([item.mask for item in made.items if item.mask is not None])
    if more is not None:
        if (more.blocks, more.family) != (names, family):
            raise ValueError(
                f"{NODE}: expected palettes of the same blocks, got {', '.join(more.blocks)} and {', '.join(names)}; "
                "set one text for blocks on both nodes."
            )
        if more.window != window:
            raise ValueError(
                f"{NODE}: expected palettes for the same part of sampling, got one for {more.window.start_percent:g} "
                f"to {more.window.end_percent:g} in more and {window.start_percent:g} to {window.end_percent:g} here; "
                "set start_percent and end_percent alike on both nodes."
            )
        made = References((*more.references.items, *made.items))
    palette = Palette(made, names, family, conditioning[0][0].shape[-1], window)
    if sigmas is not None:
        schedule, inside = [float(s) for s in sigmas if s > 0], window.resolve(model.get_model_object("model_sampling"))
        levels = [s for s in schedule if inside.contains(s)]
        if not levels:
            raise ValueError(
                f"{NODE}: expected noise levels between start_percent and end_percent in sigmas, got none of "
                f"{len(schedule)}; connect the sampler's SIGMAS, widen the window, or disconnect sigmas."
            )
        fill(palette, model, levels, schedule, NODE)
    return Made(palette, masks, shown)


def _references(model, clip, picture: Picture, conditioning: list, source: str, seed: int, weight: float) -> References:
    if (picture.image is None) == (picture.latent is None):
        raise ValueError(
            f"{NODE}: expected a picture, as image with vae or as latent, got "
            f"{'both' if picture.latent else 'neither'}."
        )
    if picture.image is not None:
        # A photograph's millions of pixels would fill the memory, and show the network a subject of a size that it has
        # never seen.
        encoded = references(
            picture.image, picture.vae, conditioning, source, seed, picture.mask, weight, NODE, _MOST_PIXELS
        )
        items = list(encoded.items)
    else:
        assert picture.latent is not None
        samples = image_latent(model, picture.latent, NODE)
        masks = _masks_of(picture.mask, samples)
        items = [
            Reference({"samples": samples[i : i + 1]}, conditioning, source, seed, masks[i], weight)
            for i in range(len(samples))
        ]
    if picture.mask is not None:
        return References(tuple(items))
    return References(tuple(_with_saliency(model, clip, item, picture) for item in items))


def _masks_of(mask: torch.Tensor | None, samples: torch.Tensor) -> list[torch.Tensor | None]:
    if mask is None:
        return [None] * len(samples)
    mask = mask[None] if mask.ndim == 2 else mask
    if len(mask) not in (1, len(samples)) or bool((mask.amax((1, 2)) < 0.5).any()):
        raise ValueError(
            f"{NODE}: expected a mask with the subject in it for each of {len(samples)} pictures, got {len(mask)} "
            f"masks, {int((mask.amax((1, 2)) < 0.5).sum())} of them empty; connect another mask or none."
        )
    return [mask[min(i, len(mask) - 1)].float().cpu() for i in range(len(samples))]


def _with_saliency(model, clip, item: Reference, picture: Picture) -> Reference:
    """The reference with the mask that its subject's words have in it, averaged over noise levels."""
    chosen = parse(picture.map_blocks, discover(model, NODE), NODE, preset(model, COARSE, NODE))
    if not chosen:
        raise ValueError(f"{NODE}: expected at least one block in map_blocks, got none; write paper, or decoder.")
    blocks = " ".join(block.name for block in chosen)
    maps = word_maps(
        bare(model),
        clip,
        item.latent,
        picture.text,
        picture.word,
        blocks,
        "together",
        _LOOK_WINDOW,
        _LOOKS,
        item.seed,
        None,
        NODE,
    )
    mask = (maps.heatmaps[0] > picture.threshold).float()
    if not bool(mask.any()):
        raise ValueError(
            f"{NODE}: expected a subject where the map of '{picture.word}' is above threshold {picture.threshold:g}, "
            "got nothing; lower threshold, choose another word, or connect mask."
        )
    return Reference(item.latent, item.conditioning, item.kind, item.seed, mask, item.weight)


def fill(palette: Palette, model, levels: Sequence[float], schedule: Sequence[float], node: str) -> None:
    """Puts the features that are missing at these noise levels into the references' banks: one model call each, and an
    inversion along the whole schedule.

    model: the MODEL that will be guided; the pack's own patches on it do not act on a reference.
    """
    model, family = bare(model), family_of(model, node)
    blocks = parse(" ".join(palette.blocks), discover(model, node), node)
    layers = layers_of(blocks)
    weights = weights_of(model)
    # A schedule that ends early, as of a sampler that leaves noise, says nothing of the way to a clean picture.
    rest = noise_levels(ALWAYS, _WAY, model.get_model_object("model_sampling"), node)
    schedule = [*schedule, *(s for s in rest if s < min(schedule))]
    for item in palette.references.items:
        if not _missing(item, weights, layers, levels):
            continue
        source = item.source(model, schedule, node)  # another schedule's way to a level empties the bank
        missing = _missing(item, weights, layers, levels)
        tap = HiddenStateTap(node, family, blocks, BankSink(HIDDEN, weights, item.bank, item.tokens))

        def observe(denoise: Denoise, clean: torch.Tensor, source=source, missing=missing) -> None:
            for sigma in missing:
                denoise(source.at(sigma).to(clean), sigma)

        run_pass(attach(model, tap), item.conditioning, image_latent(model, item.latent, node), missing, observe)


def _missing(item: Reference, weights: str, layers: Sequence[Layer], levels: Sequence[float]) -> list[float]:
    return [s for s in levels if any(item.bank.get(Key(weights, HIDDEN, layer, True), s) is None for layer in layers)]


def preview(model, made: References, blocks: Sequence[Block], vae) -> torch.Tensor:
    """[references, ...] RGB pictures: the reference, its mask, and its features' first three principal components, at a
    middle level."""
    sigma = float(model.get_model_object("model_sampling").percent_to_sigma(0.5))
    layers = blocks[len(blocks) // 2].layers
    panels = []
    for item in made.items:
        picture = pictures_of(model, item.latent, vae)
        height, width = picture.shape[1:3]
        seen = _Seen()
        tap = HiddenStateTap(NODE, family_of(model, NODE), tuple(b for b in blocks if layers[0] in b.layers), seen)
        noisy = noised_source(model, item.latent, item.seed, NODE).at(sigma)
        run_pass(
            attach(bare(model), tap),
            item.conditioning,
            image_latent(model, item.latent, NODE),
            [sigma],
            lambda denoise, clean, noisy=noisy: _look(denoise, noisy.to(clean), sigma),
        )
        values, size = seen.of[layers[0]]
        mask = (
            torch.ones(1, height, width)
            if item.mask is None
            else F.interpolate(item.mask[None, None], (height, width))[0]
        )
        colours = principal_colours(values[0].float().cpu()).unflatten(0, size).movedim(-1, 0)[None]
        colours = F.interpolate(colours, (height, width), mode="nearest").movedim(1, -1)
        features = torch.where(mask[..., None] > 0.5, colours, 0.3 * picture)
        shown = [
            captioned(picture, "reference"),
            captioned(overlay(picture, mask), "mask"),
            captioned(features, "features"),
        ]
        panels.append(torch.cat(shown, 2))
    height, width = (max(p.shape[i] for p in panels) for i in (1, 2))
    return torch.cat([F.pad(p, (0, 0, 0, width - p.shape[2], 0, height - p.shape[1])) for p in panels])


def _look(denoise: Denoise, latents: torch.Tensor, sigma: float) -> None:
    denoise(latents, sigma)


class _Seen:
    """A sink that keeps what it is shown, for one look at one picture."""

    def __init__(self):
        self.of: dict[Layer, tuple[torch.Tensor, tuple[int, int]]] = {}

    def record(self, call: Call, layer: Layer, values: torch.Tensor, size: tuple[int, int]) -> None:
        self.of[layer] = (values, size)
