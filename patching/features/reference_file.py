"""References with their banks as safetensors files in ComfyUI's output folder, so that no later day's run makes them
again."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..host.attach import attach, bare
from ..host.blocks import Layer, parse
from ..host.checks import check_text, image_latent, single
from ..host.families import discover, family_of, preset
from ..host.family import LATE
from ..host.files import Store, conditioning_of, conditioning_parts
from ..host.passes import Denoise, run_pass
from .bank import FeatureBank, Key, weights_of
from .reference_reading import ReferenceReading
from .references import Reference, References
from .sources import Inverted

SAVE, LOAD = "LikenessSaveReference", "LikenessLoadReference"
STORE = Store("likeness", "likeness_reference", 1, "reference", "Save Reference", LOAD)


def fill(references: References, model, sigmas: torch.Tensor, blocks: str, negative: list | None = None) -> None:
    """Puts the features of every reference at every noise level of SIGMAS into its bank: one model call each, and an
    inversion.

    negative: the prompt that runs with guidance will lend the references; a second row of every call.
    """
    chosen = parse(blocks, discover(model, SAVE), SAVE, preset(model, LATE, SAVE))
    levels = [float(s) for s in sigmas if s > 0]
    if not levels or not chosen:
        raise ValueError(
            f"{SAVE}: expected noise levels and blocks to keep, got {len(levels)} and {len(chosen)}; connect sigmas, "
            "set blocks."
        )
    model = bare(model)
    weights = weights_of(model)
    for item in references.items:
        check_text(model, item.conditioning, "reference", SAVE)
    if negative is not None:
        single(negative, SAVE, "negative prompt")
        check_text(model, negative, "negative prompt", SAVE)
    for item in references.items:
        source = item.source(model, levels, SAVE)

        def observe(denoise: Denoise, clean: torch.Tensor, source=source) -> None:
            for sigma in levels:
                denoise(source.at(sigma).to(clean), sigma)

        reading = ReferenceReading(SAVE, family_of(model, SAVE), chosen, item, weights, negative)
        run_pass(attach(model, reading), item.conditioning, image_latent(model, item.latent, SAVE), levels, observe)


def save(references: References, prefix: str) -> Path:
    """Writes a numbered file below the output folder."""
    return STORE.write(prefix, *parts_of(references))


def parts_of(references: References, node: str = SAVE) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """References as the tensors and the metadata of a file."""
    tensors: dict[str, torch.Tensor] = {}
    items, features = [], []
    for i, item in enumerate(references.items):
        single(item.conditioning, node)
        parts, numbers = conditioning_parts(f"{i}", item.conditioning)
        tensors |= {f"{i}.latent": item.latent["samples"]} | parts
        if item.mask is not None:
            tensors[f"{i}.mask"] = item.mask
        inversions = {}
        for weights, inversion in item.inversions.items():
            tensors[f"{i}.inversion.{weights}"] = torch.stack(inversion.latents)
            inversions[weights] = inversion.sigmas
        items.append(
            {
                "kind": item.kind,
                "seed": item.seed,
                "weight": item.weight,
                "conditioning": numbers,
                "inversions": inversions,
            }
        )
        for n, (key, sigma, values) in enumerate(item.bank.items()):
            tensors[f"{i}.features.{n}"] = values
            features.append([i, n, key.weights, key.kind, list(key.layer), key.conditional, key.negative_digest, sigma])
    return tensors, {"items": json.dumps(items), "features": json.dumps(features)}


def load(name: str) -> References:
    """Raises FileNotFoundError or ValueError in one sentence."""
    return STORE.read(name, references_of)


def references_of(tensors: dict[str, torch.Tensor], facts: dict[str, str], node: str = LOAD) -> References:
    """What `parts_of` took apart."""
    items, features = json.loads(facts["items"]), json.loads(facts["features"])
    found = []
    for i, item in enumerate(items):
        conditioning = conditioning_of(f"{i}", tensors, item["conditioning"], node)
        latent = {"samples": tensors[f"{i}.latent"]}
        inversions = {
            weights: Inverted(tuple(sigmas), tuple(tensors[f"{i}.inversion.{weights}"]), node)
            for weights, sigmas in item["inversions"].items()
        }
        mask = tensors.get(f"{i}.mask")
        found.append(
            Reference(latent, conditioning, item["kind"], item["seed"], mask, item["weight"], FeatureBank(), inversions)
        )
    # Files of the first version have no digest of a negative prompt.
    for i, n, weights, kind, layer, conditional, *digest, sigma in features:
        key = Key(weights, kind, Layer(*layer), conditional, *digest)
        found[i].bank.put(key, sigma, tensors[f"{i}.features.{n}"])
    return References(tuple(found))
