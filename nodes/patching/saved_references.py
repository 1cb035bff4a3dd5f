"""References with their banks as safetensors files in ComfyUI's output folder, so that no later day's run makes them again."""

from __future__ import annotations

import json
from pathlib import Path

import folder_paths
import safetensors
import torch
from safetensors.torch import save_file

from .bank import HIDDEN, FeatureBank, Key, weights_of
from .blocks import Layer, parse
from .families import discover, family_of, late_blocks
from .passes import Denoise, run_pass
from .references import Reference, References, single
from .run_state import attach, bare
from .sources import Inverted, image_latent
from .taps import BankSink, HiddenStateTap

SAVE, LOAD = "LikenessSaveReference", "LikenessLoadReference"
NOTHING = "none saved yet: use Save Reference"
_FOLDER = "likeness"
_FORMAT = "likeness_reference"
_VERSION = 1


def fill(references: References, model, sigmas: torch.Tensor, blocks: str) -> None:
    """Puts the features of every reference at every noise level of SIGMAS into its bank: one model call each, and an inversion."""
    chosen = parse(blocks, discover(model, SAVE), SAVE, late_blocks(model, SAVE))
    levels = [float(s) for s in sigmas if s > 0]
    if not levels or not chosen:
        raise ValueError(
            f"{SAVE}: expected noise levels and blocks to keep, got {len(levels)} and {len(chosen)}; connect sigmas, set blocks."
        )
    model = bare(model)
    weights = weights_of(model)
    for item in references.items:
        source = item.source(model, levels, SAVE)
        sink = BankSink(HIDDEN, weights, item.bank, item.tokens)
        tapped = attach(model, HiddenStateTap(SAVE, family_of(model, SAVE), chosen, sink))

        def observe(denoise: Denoise, clean: torch.Tensor, source=source) -> None:
            for sigma in levels:
                denoise(source.at(sigma).to(clean), sigma)

        run_pass(tapped, item.conditioning, image_latent(model, item.latent, SAVE), levels, observe)


def save(references: References, prefix: str) -> Path:
    """Writes a numbered file below the output folder, under a temporary name until it is whole."""
    folder, name, counter, _, _ = folder_paths.get_save_image_path(f"{_FOLDER}/{prefix}", folder_paths.get_output_directory())
    path = Path(folder) / f"{name}_{counter:05}_.safetensors"
    tensors: dict[str, torch.Tensor] = {}
    items, features = [], []
    for i, item in enumerate(references.items):
        text, rest = item.conditioning[0]
        tensors |= {f"{i}.latent": item.latent["samples"], f"{i}.text": text}
        tensors |= {f"{i}.cond.{k}": v for k, v in rest.items() if isinstance(v, torch.Tensor)}
        if item.mask is not None:
            tensors[f"{i}.mask"] = item.mask
        numbers = {k: v for k, v in rest.items() if isinstance(v, int | float | str)}
        inversions = {}
        for weights, inversion in item.inversions.items():
            tensors[f"{i}.inversion.{weights}"] = torch.stack(inversion.latents)
            inversions[weights] = inversion.sigmas
        items.append({"kind": item.kind, "seed": item.seed, "weight": item.weight, "conditioning": numbers, "inversions": inversions})
        for n, (key, sigma, values) in enumerate(item.bank.items()):
            tensors[f"{i}.features.{n}"] = values
            features.append([i, n, key.weights, key.kind, list(key.layer), key.conditional, sigma])
    metadata = {"format": _FORMAT, "version": str(_VERSION), "items": json.dumps(items), "features": json.dumps(features)}
    temporary = path.with_suffix(".tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary, metadata=metadata)
    temporary.replace(path)
    return path


def names() -> list[str]:
    """The saved files, as their names below the output folder's part that is ours."""
    folder = Path(folder_paths.get_output_directory()) / _FOLDER
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.safetensors")) if folder.is_dir() else []


def path_of(name: str) -> Path | None:
    """The file of a name that `names` lists, else None: no name can lead out of the folder."""
    return Path(folder_paths.get_output_directory()) / _FOLDER / name if name in names() else None


def load(name: str) -> References:
    """Raises FileNotFoundError or ValueError in one sentence."""
    path = path_of(name)
    if path is None:
        raise FileNotFoundError(
            f"{LOAD}: expected a saved reference, got {name!r}; choose one of {', '.join(names()) or 'those that you save'}."
        )
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{LOAD}: expected a whole safetensors file, got {name} ({error}); save the reference again.") from error
    if metadata.get("format") != _FORMAT or metadata.get("version") != str(_VERSION):
        raise ValueError(
            f"{LOAD}: expected a reference of version {_VERSION}, got {metadata.get('format')} {metadata.get('version')} in {name}; "
            "save the reference again."
        )
    try:
        return _references(tensors, json.loads(metadata["items"]), json.loads(metadata["features"]))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ValueError(f"{LOAD}: expected a complete reference, got {name} without some of it ({error}); save it again.") from error


def _references(tensors: dict[str, torch.Tensor], items: list[dict], features: list) -> References:
    found = []
    for i, item in enumerate(items):
        start = f"{i}.cond."
        rest = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)} | item["conditioning"]
        conditioning = [[tensors[f"{i}.text"], rest]]
        single(conditioning, LOAD)
        latent = {"samples": tensors[f"{i}.latent"]}
        inversions = {
            weights: Inverted(tuple(sigmas), tuple(tensors[f"{i}.inversion.{weights}"]), LOAD)
            for weights, sigmas in item["inversions"].items()
        }
        mask = tensors.get(f"{i}.mask")
        found.append(Reference(latent, conditioning, item["kind"], item["seed"], mask, item["weight"], FeatureBank(), inversions))
    for i, n, weights, kind, layer, conditional, sigma in features:
        found[i].bank.put(Key(weights, kind, Layer(*layer), conditional), sigma, tensors[f"{i}.features.{n}"])
    return References(tuple(found))
