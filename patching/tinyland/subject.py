"""The demo's personalized subjects, in demo/weights/subjects: a LoRA for Tinyland and four reference pictures each."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import comfy.sd
import numpy as np
import torch
from PIL import Image

from ..host.facts import named, parsed, text
from ..host.files import brief
from . import model as tinyland
from .transformer import TransformerConfig

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

NODE = "Demo Subject"
TRANSFORMER_SUBJECT = "tinyland_transformer_subject"
"""Metadata key of a LoRA for the demo transformer."""
REFERENCES = 4
_UP, _DOWN = ".lora_up.weight", ".lora_down.weight"


def folder() -> Path:
    """The folder of all subjects."""
    return tinyland.WEIGHTS / "subjects"


def files(name: str) -> tuple[Path, Path]:
    """Paths of the subject's LoRA and of its reference pictures, side by side in one image."""
    return folder() / f"{name}.safetensors", folder() / f"{name}.png"


def of_transformer(name: str, weights: Path = tinyland.WEIGHTS) -> Path:
    """Path of the subject's LoRA for the demo transformer; few subjects have one."""
    return weights / "transformer" / f"{name}.safetensors"


def names() -> list[str]:
    """Names of all bundled subjects, sorted; a subject without its LoRA is listed and fails to load with a message."""
    return sorted({path.stem for kind in ("*.safetensors", "*.png") for path in folder().glob(kind)})


def file_state(*paths: Path) -> tuple:
    """A cache key that changes when one of the files is changed, added or removed."""
    return tuple((s.st_mtime_ns, s.st_size) if (s := _stat(path)) else None for path in paths)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


@dataclass(frozen=True)
class Subject:
    """One subject: its LoRA, and the words that the LoRA's metadata holds."""

    name: str
    lora: dict[str, torch.Tensor]
    class_name: str
    placeholder: str

    @classmethod
    def load(cls, name: str) -> Subject:
        """Loads a subject. Raises FileNotFoundError for a missing LoRA, ValueError for a truncated or other file."""
        path = files(name)[0]
        try:
            lora, metadata = tinyland.read_weights(path, "tinyland_subject")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{NODE}: expected the LoRA of '{name}' in {folder()}, got no {path.name}; reinstall the pack."
            ) from error
        except ValueError as error:
            raise ValueError(
                f"{NODE}: expected the whole LoRA of a Tinyland subject, got {path.name}, which is truncated or made "
                "for another model; reinstall the pack."
            ) from error
        try:
            facts = named(parsed(metadata, "tinyland_subject"), "tinyland_subject")
            return cls(name, lora, text(facts.get("class"), "class"), text(facts.get("placeholder"), "placeholder"))
        except ValueError as error:
            raise ValueError(
                f"{NODE}: expected the words of a Tinyland subject in {path.name}, got none ({error}); reinstall the "
                "pack."
            ) from error

    def personalize(self, model: ModelPatcher, strength: float) -> ModelPatcher:
        """A clone of the MODEL with its LoRA of the subject applied; a plain clone at strength 0.

        Raises FileNotFoundError for a transformer and a subject without a LoRA for it, ValueError unless every layer of
        the LoRA fits the model.
        """
        if isinstance(model.model.model_config, TransformerConfig):
            if strength == 0:  # every subject has its pictures and words there
                return model.clone()
            lora = _transformer_lora(self.name)
        else:
            lora = self.lora
        weights = {key: value.shape for key, value in model.model.state_dict().items()}
        layers = [key.removesuffix(_UP) for key in lora if key.endswith(_UP)]
        fitting = sum(_fits(lora, layer, weights.get(f"{layer}.weight")) for layer in layers)
        if not layers or fitting < len(layers):
            raise ValueError(
                f"{NODE}: expected the demo model that '{self.name}' was tuned on, got a "
                f"{type(model.model.model_config).__name__} model that {fitting} of the LoRA's {len(layers)} layers "
                "fit; connect Demo Model to model."
            )
        if strength == 0:  # patches of weight 0 would still cost time and memory
            return model.clone()
        personalized, _ = comfy.sd.load_lora_for_models(model, None, lora, strength, 0.0)
        assert personalized is not None
        return personalized

    def references(self) -> torch.Tensor:
        """The reference pictures, [4, size, size, 3] in 0..1.

        Raises FileNotFoundError for a missing file, ValueError for a broken one.
        """
        path = files(self.name)[1]
        try:
            with Image.open(path) as strip:
                width, height = strip.size
                if width != REFERENCES * height:  # told before anything is decoded
                    raise ValueError(f"{width}x{height} pixels, not {REFERENCES} square pictures")
                pixels = np.asarray(strip.convert("RGB"), dtype=np.float32) / 255
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{NODE}: expected the pictures of '{self.name}' in {folder()}, got no {path.name}; reinstall the pack."
            ) from error
        except Exception as error:  # the readers of pictures raise nothing narrower
            raise ValueError(
                f"{NODE}: expected {REFERENCES} square pictures in {path.name}, got a file that cannot be read as such "
                f"({brief(error)}); reinstall the pack."
            ) from error
        return torch.from_numpy(np.stack(np.split(pixels, REFERENCES, axis=1)))

    def personalized_prompt(self, scene: str) -> str:
        """The prompt with placeholder and class, for the personalized model."""
        return self._sentence(f"{self.placeholder} {self.class_name}", scene)

    def prompt(self, scene: str) -> str:
        """The prompt with the class alone, for the vanilla model."""
        return self._sentence(self.class_name, scene)

    @staticmethod
    def _sentence(what: str, scene: str) -> str:
        return f"a photo of a {what} {scene.strip()}".rstrip()


def _transformer_lora(name: str) -> dict[str, torch.Tensor]:
    path = of_transformer(name, tinyland.WEIGHTS)
    if not path.is_file():
        others = ", ".join(sorted(other.stem for other in path.parent.glob("*.safetensors")))
        raise FileNotFoundError(
            f"{NODE}: expected a subject with a LoRA for the demo transformer ({others or 'none is there'}), got "
            f"'{name}'; change subject, or set strength to 0 for its pictures and prompts alone."
        )
    try:
        return tinyland.read_weights(path, TRANSFORMER_SUBJECT)[0]
    except ValueError as error:
        raise ValueError(
            f"{NODE}: expected the whole LoRA of a subject for the demo transformer, got {path.name} in "
            f"{path.parent.name}, which is truncated or made for another model; reinstall the pack."
        ) from error


def _fits(lora: dict[str, torch.Tensor], layer: str, weight: torch.Size | None) -> bool:
    up, down = lora[layer + _UP], lora.get(layer + _DOWN)
    if weight is None or down is None or len(weight) < 2:
        return False
    return up.shape == (weight[0], down.shape[0]) and down[0].numel() == weight[1:].numel()
