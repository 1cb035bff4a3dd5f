"""Methods on transformers: most have their text encoders and their autoencoder in files of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ENCODERS = ("text_encoder", "text_encoder_2", "text_encoder_3")
"""Slots of the text encoders' files."""
FOLDERS = {"network": "diffusion_models", "vae": "vae", **dict.fromkeys(ENCODERS, "text_encoders")}
"""ComfyUI's folder of models for each slot."""
_CHECKPOINT = "CheckpointLoaderSimple"
_LOADERS = {
    1: ("CLIPLoader", ("clip_name",)),
    2: ("DualCLIPLoader", ("clip_name1", "clip_name2")),
    3: ("TripleCLIPLoader", ("clip_name1", "clip_name2", "clip_name3")),
}
_BLOCKS = {"decoder": "late", "encoder": "early"}
"""Presets of blocks of U-Nets, and those that take their place in transformers."""
_VALUES = {
    "LikenessReference": {"source": "noised"},
    "AppearancePalette": {"source": "noised"},
    "MultiSourceAttnSwap": {"attention": "append", "mode": "sequential"},
    "StepBlendedSampler": {"record_blocks": ""},
}
"""Values that suit transformers, by node: those of Likeness Sampler and of the workflows for transformers."""


@dataclass(frozen=True)
class Separate:
    """Files in place of a checkpoint.

    encoders: number of text encoders, 0 for a checkpoint in one file. kind: `type` of ComfyUI's loader of them.
    """

    encoders: int
    kind: str

    def graph(self, graph: Mapping[str, Any], bundled: bool = True) -> dict[str, Any]:
        """A copy of a method's graph in which every loader of a checkpoint is one of these files.

        Presets of blocks that a transformer does not have are exchanged, too. bundled: False for a user's own graph,
        whose other values stay; in one of ours, those that suit a transformer take the place of the papers'.
        """
        loaders = {key for key, node in graph.items() if self.encoders and node["class_type"] == _CHECKPOINT}
        made: dict[str, Any] = {}
        for key, node in graph.items():
            if key in loaders:
                made |= self._loaders(key)
            else:
                inputs = {name: self._input(name, value, loaders) for name, value in node["inputs"].items()}
                suited = _VALUES.get(node["class_type"], {}) if bundled else {}
                made[key] = {**node, "inputs": inputs | suited}
        return made

    def _input(self, name: str, value: Any, loaders: set[str]) -> Any:
        if isinstance(value, list) and value and value[0] in loaders:
            return [_ids(value[0])[value[1]], 0]
        return _BLOCKS.get(value, value) if "blocks" in name and isinstance(value, str) else value

    def _loaders(self, key: str) -> dict[str, Any]:
        network, clip, vae = _ids(key)
        loader, names = _LOADERS[self.encoders]
        kind = {} if self.encoders == 3 else {"type": self.kind}
        filled = ", ".join(f"{name}={slot}" for name, slot in zip(names, ENCODERS, strict=False))
        return {
            network: _node("UNETLoader", {"unet_name": "", "weight_dtype": "default"}, "[unet_name=network]"),
            clip: _node(loader, {**dict.fromkeys(names, ""), **kind}, f"[{filled}]"),
            vae: _node("VAELoader", {"vae_name": ""}, "[vae_name=vae]"),
        }


def _ids(key: str) -> tuple[str, str, str]:
    """Ids of the loaders of network, text encoders and autoencoder, by the checkpoint loader's outputs."""
    return key, f"{key}-clip", f"{key}-vae"


def _node(kind: str, inputs: dict[str, str], title: str) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
