"""Layout templates as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..host.blocks import Layer
from ..host.files import Store
from .template import Template

SAVE, LOAD = "Save Layout Template", "Load Layout Template"
STORE = Store(
    folder="likeness_templates",
    form="likeness_template",
    version=1,
    what="template",
    saver="Save Layout Template",
    loader=LOAD,
)


def save(template: Template, prefix: str) -> Path:
    """Writes a numbered file below the output folder and returns its path.

    prefix: its name below output/likeness_templates. Raises ValueError for one that leads out of the folder.
    """
    tensors = {} if template.mask is None else {"mask": template.mask}
    listed = [(layer, sigma, values) for layer, levels in template.maps.items() for sigma, values in levels.items()]
    tensors |= {f"map.{n}": values for n, (_, _, values) in enumerate(listed)}
    facts = {"family": template.family, "maps": json.dumps([[list(layer), sigma] for layer, sigma, _ in listed])}
    return STORE.write(prefix, tensors, facts)


def load(name: str) -> Template:
    """Reads a saved template by its name below the folder.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one.
    """
    return STORE.read(name, _template)


def _template(tensors: dict[str, torch.Tensor], facts: dict[str, str]) -> Template:
    maps: dict[Layer, dict[float, torch.Tensor]] = {}
    for n, (layer, sigma) in enumerate(json.loads(facts["maps"])):
        maps.setdefault(Layer(*layer), {})[sigma] = tensors[f"map.{n}"]
    if not maps and "mask" not in tensors:
        raise ValueError("neither maps nor a mask")
    return Template(facts["family"], maps, tensors.get("mask"))
