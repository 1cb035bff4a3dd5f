"""References with their banks, as safetensors files in ComfyUI's output folder: later runs need not read them again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..host.attach import attach, bare
from ..host.blocks import check_names, parse
from ..host.checks import check_text, image_latent, single
from ..host.facts import layer, listed, mapped, named, number, numbers, parsed, tensor, text, texts, truth, whole
from ..host.families import discover, family_of, presets
from ..host.family import LATE
from ..host.files import Store, conditioning_of, conditioning_parts
from ..host.identity import identity_of, lasting
from ..host.passes import Denoise, run_pass
from .bank import Key
from .host_memory import sent
from .reference_reading import ReferenceReading
from .references import INVERSION_STEPS, INVERTED, NOISED, Reference, References
from .sources import Inverted

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

SAVE, LOAD = "Save Reference", "Load Reference"
STORE = Store(
    folder="likeness",
    form="likeness_reference",
    version=1,
    what="reference",
    saver="Save Reference",
    loader=LOAD,
)
KINDS = (INVERTED, NOISED)
_LEAST_WEIGHT, _MOST_STEPS = 1e-6, 10_000


def fill(
    references: References, model: ModelPatcher, sigmas: torch.Tensor, blocks: str, negative: list | None = None
) -> References:
    """The references at the model's size, with their features at every noise level of SIGMAS in their banks.

    It costs one model call per level, and an inversion. negative: the negative prompt of later runs with guidance, a
    second row of every call. Raises ValueError without levels or blocks, and for prompts of another model family.
    """
    check_names(blocks, SAVE, paper=True, needed=True)
    chosen = parse(blocks, discover(model, SAVE), SAVE, presets(model, LATE, SAVE))
    levels = [float(s) for s in sigmas if s > 0]
    if not levels:
        raise ValueError(
            f"{SAVE}: expected noise levels to keep, got none above 0; connect the sampler's SIGMAS to sigmas."
        )
    model = bare(model)
    references = references.fitted(model, SAVE)
    identity = identity_of(model)
    if not identity.lasts:
        raise ValueError(
            f"{SAVE}: expected a model that a later run can recognize, got one with {', '.join(identity.unknown)}; "
            "remove the node that adds it from model, or use the reference without saving its features."
        )
    for item in references.items:
        check_text(model, item.conditioning, "reference", SAVE)
    if negative is not None:
        single(negative, SAVE, "negative prompt")
        check_text(model, negative, "negative prompt", SAVE)
    for item in references.items:
        source = item.source(model, levels, SAVE, identity)

        def observe(denoise: Denoise, clean: torch.Tensor, source=source) -> None:
            for sigma in levels:
                denoise(sent(source.at(sigma), clean), sigma)

        family = family_of(model, SAVE)
        reading = ReferenceReading(SAVE, family, chosen, reference=item, weights=identity.name, negative=negative)
        run_pass(attach(model, reading), item.conditioning, image_latent(model, item.latent, SAVE), levels, observe)
    return references


def save(references: References, prefix: str) -> Path:
    """Writes a numbered file below the output folder and returns its path."""
    return STORE.write(prefix, *parts_of(references))


def parts_of(references: References, node: str = SAVE) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises ValueError for prompts that are more than one plain text."""
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
            if not lasting(weights):
                continue
            tensors[f"{i}.inversion.{weights}"] = torch.stack(inversion.latents)
            inversions[weights] = inversion.sigmas
        items.append(
            {
                "kind": item.kind,
                "seed": item.seed,
                "weight": item.weight,
                "conditioning": numbers,
                "inversions": inversions,
                "steps": {weights: inversion.steps for weights, inversion in item.inversions.items()},
                "inversion_steps": item.inversion_steps,
            }
        )
        kept = [entry for entry in item.bank.items() if lasting(entry[0].weights)]
        for n, (key, sigma, values) in enumerate(kept):
            tensors[f"{i}.features.{n}"] = values
            features.append([i, n, key.weights, key.kind, list(key.layer), key.conditional, key.negative_digest, sigma])
    return tensors, {"items": json.dumps(items), "features": json.dumps(features)}


def load(name: str) -> References:
    """The references of a saved file. Raises FileNotFoundError for a missing file, ValueError for a damaged one."""
    return STORE.read(name, references_of)


def references_of(
    tensors: dict[str, torch.Tensor], facts: dict[str, str], node: str = LOAD, kinds: tuple[str, ...] = KINDS
) -> References:
    """The inverse of `parts_of`. kinds: those of references that the file may hold. Raises ValueError for others."""
    found = [
        _reference(tensors, i, named(item, "a reference"), node, kinds)
        for i, item in enumerate(listed(parsed(facts, "items"), "items"))
    ]
    if not found:
        raise ValueError("no reference")
    for entry in listed(parsed(facts, "features"), "features"):
        # Files of the first version have no digest of a negative prompt.
        i, n, weights, kind, place, conditional, *digest, sigma = listed(entry, "an entry of features")
        key = Key(
            text(weights, "weights"),
            text(kind, "kind"),
            layer(place, "a layer"),
            truth(conditional, "conditional"),
            *texts(digest[:1], "digest"),
        )
        values = mapped(tensors, f"{whole(i, 'a number', end=len(found))}.features.{whole(n, 'a number')}", 3)
        found[i].bank.put(key, number(sigma, "a noise level", 0.0), values)
    return References(tuple(found))


def _reference(tensors: dict[str, torch.Tensor], i: int, item: dict, node: str, kinds: tuple[str, ...]) -> Reference:
    latent = tensor(tensors, f"{i}.latent", 4, 5)
    if len(latent) != 1:
        raise ValueError(f"{i}.latent is of {len(latent)} pictures")
    steps = named(item.get("steps", {}), "steps")
    return Reference(
        {"samples": latent},
        conditioning_of(f"{i}", tensors, item.get("conditioning"), node),
        kind=text(item.get("kind"), "kind", kinds),
        seed=whole(item.get("seed"), "seed"),
        mask=tensor(tensors, f"{i}.mask", 2) if f"{i}.mask" in tensors else None,
        weight=number(item.get("weight"), "weight", _LEAST_WEIGHT),
        inversions={
            weights: _inversion(tensors, f"{i}.inversion.{weights}", latent, sigmas, steps.get(weights, 0))
            for weights, sigmas in named(item.get("inversions"), "inversions").items()
        },
        saved=True,
        inversion_steps=whole(item.get("inversion_steps", INVERSION_STEPS), "inversion_steps", 1, _MOST_STEPS),
    )


def _inversion(tensors: dict[str, torch.Tensor], name: str, latent: torch.Tensor, sigmas: Any, steps: Any) -> Inverted:
    levels, latents = numbers(sigmas, "noise levels", 0.0), tensor(tensors, name, latent.ndim + 1)
    if len(latents) != len(levels) or latents.shape[1:] != latent.shape:
        raise ValueError(f"{name} is {tuple(latents.shape)} for {len(levels)} noise levels")
    if sorted(levels) != list(levels):
        raise ValueError(f"the noise levels of {name} do not rise")
    return Inverted(levels, tuple(latents), whole(steps, "steps"))
