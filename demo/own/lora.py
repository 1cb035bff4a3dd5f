"""The user's LoRA: whether it belongs to the checkpoint's family."""

from __future__ import annotations

from pathlib import Path

import comfy.lora
import torch

from ..launcher.files import Problem
from .checkpoint import Checkpoint, Shapes, read_shapes

_INNER = (".lora_down.weight", ".lora_A.weight", ".lora.down.weight", ".lora_A.default.weight", "_lora.down.weight")
_OUTER = (".lora_up.weight", ".lora_B.weight", ".lora.up.weight", ".lora_B.default.weight", "_lora.up.weight")
_OTHER = (".alpha", ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".lokr_w1", ".lokr_w2", ".diff")
_OF_TEXT = ("lora_te", "text_encoder")


def check_lora(path: Path, checkpoint: Checkpoint) -> None:
    """Raises Problem for a file that is no LoRA, or one for another family than the checkpoint's."""
    if not path.is_file():
        raise Problem(f"expected a LoRA at {path}, got no such file: correct --lora.")
    layers, weights = _layers(read_shapes(path, "--lora")), _weights(checkpoint)
    if not layers:
        raise Problem(f"expected a LoRA, got {path.name}, which has no weights of one: give --lora another file.")
    names = {name for name, _, _ in layers if not name.startswith(_OF_TEXT)}
    wrong = sum(not _fits(weights[name], size, axis) for name, size, axis in layers if name in weights)
    if wrong or (names and 2 * len(names & weights.keys()) < len(names)):
        name = checkpoint.family.name
        raise Problem(
            f"expected a LoRA for {name}, got {path.name}, which was trained on another family: give --lora one for "
            f"{name}, or --checkpoint one of its family."
        )


def _layers(shapes: Shapes) -> list[tuple[str, int, int]]:
    """The name of each weight's layer, and the size that the layer has on an axis; axis -1 for none."""
    found = []
    for key, tensor in shapes.items():
        for ends, axis in ((_INNER, 1), (_OUTER, 0), (_OTHER, -1)):
            end = next((end for end in ends if key.endswith(end)), None)
            if end is not None:
                found.append((key.removesuffix(end), tensor.shape[axis] if axis >= 0 and tensor.ndim > 1 else 0, axis))
                break
    return found


def _fits(weight: torch.Tensor, size: int, axis: int) -> bool:
    return axis < 0 or weight.ndim <= axis or weight.shape[axis] == size


def _weights(checkpoint: Checkpoint) -> Shapes:
    """Weights of the U-Net by the names that LoRAs give their layers."""
    model = checkpoint.config.get_model({}, "", device=torch.device("meta"))
    state = model.state_dict()
    return {name: state[key] for name, key in comfy.lora.model_lora_keys_unet(model, {}).items() if key in state}
