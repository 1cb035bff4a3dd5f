"""Layout templates as safetensors files in ComfyUI's output folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from ..host.blocks import Layer
from ..host.facts import layer, listed, number, parsed, tensor, text
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
_LEAST_LEVEL = 1e-12


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
    for n, entry in enumerate(listed(parsed(facts, "maps"), "maps")):
        place, sigma = listed(entry, "an entry of maps", 2)
        values = tensor(tensors, f"map.{n}", 3)
        maps.setdefault(layer(place, "a layer"), {})[number(sigma, "a noise level", _LEAST_LEVEL)] = values
    mask = tensor(tensors, "mask", 3) if "mask" in tensors else None
    if not maps and mask is None:
        raise ValueError("neither maps nor a mask")
    if len({len(values) for levels in maps.values() for values in levels.values()}) > 1:
        raise ValueError("maps of unequal numbers of pictures")
    return Template(text(facts.get("family"), "family"), maps, mask)
