"""LoRAs behind a MODEL: the layers that do not fit its weights, which the host leaves out with a line in its log."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from comfy.utils import get_attr
from comfy.weight_adapter import LoRAAdapter

from .notices import Notices

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def tell_misfits(model: ModelPatcher, name: str, told: Notices) -> None:
    """Warns of a LoRA that was made for another checkpoint, as far as shapes show it.

    name: the input of the MODEL.
    """
    wrong, layers = misfits(model)
    if wrong:
        told.tell(
            f"{wrong} of the {layers} layers of the LoRA behind {name} have other shapes than the checkpoint's, so "
            f"ComfyUI leaves them out; connect a LoRA made for this checkpoint to {name}."
        )


def misfits(model: ModelPatcher) -> tuple[int, int]:
    """The number of a MODEL's LoRA layers with another size than the weight that they change, and of all of them.

    Weights that their loader has packed into integers are left out, because some have the shape of the package.
    """
    fits: list[bool] = []
    for key, patches in model.patches.items():
        weight = get_attr(model.model, key)
        if weight.is_floating_point():
            size = tuple(weight.shape)
            fits += [_fits(patch[1], size, patch[3]) for patch in patches if isinstance(patch[1], LoRAAdapter)]
    return fits.count(False), len(fits)


def _fits(adapter: LoRAAdapter, size: tuple[int, ...], part: tuple[int, int, int] | None) -> bool:
    """True for a layer whose product the host can give the shape of its weight.

    part: dimension, start and length of the weight's part that it changes; None for all of it.
    """
    up, down, _, middle, _, reshaped = adapter.weights
    if reshaped is not None:
        return True
    if part is not None:
        size = (*size[: part[0]], part[2], *size[part[0] + 1 :])
    inner = down[0].numel() if middle is None else down.shape[1] * math.prod(middle.shape[2:])
    return up.shape[0] * inner == math.prod(size)
