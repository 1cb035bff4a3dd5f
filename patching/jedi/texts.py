"""Prompts of a set for transformers, whose sequence holds picture and prompt: encoded one by one, joined as rows.

The host encodes each prompt before sampling. Shorter ones are then filled, and no token looks at the filling.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from comfy.conds import CONDConstant, CONDList, CONDRegular

from ..host.dit import DiT
from ..host.dit_hook import OVERRIDE
from ..host.family import Family
from .filling import HIDDEN, Bias, Masked, Placed, common_length
from .prompts import check_alike

TEXT_MASK = "likeness_text"
"""The argument of a model call with its prompts' masks, [rows, text tokens], 1 for tokens and 0 for filling."""
_TEXT, _HOSTS_MASK = "c_crossattn", "attention_mask"
_LENGTH = "num_tokens"
"""The argument with the length of a text, which Z-Image and Lumina 2 get and do not read."""
_OF_OTHERS = ("reference_latents", "reference_latents_text_embeds", "unclip_conditioning")
_OF_ONE_TEXT = ("pooled_output", _HOSTS_MASK, "t5xxl_ids", "t5xxl_weights")


def entries_of(texts: Sequence[list], family: Family, node: str) -> list:
    """One CONDITIONING of all texts, an entry each, which `joined` makes to rows once the host has encoded them.

    Raises ValueError for texts that differ in anything but their tokens. The same holds for several lengths, where they
    place the picture, beside pictures that the host adds.
    """
    check_alike(texts, _OF_ONE_TEXT, node)
    lengths = [text[0][0].shape[1] for text in texts]
    if (
        family.places_by_text
        and len(set(lengths)) > 1
        and any(text[0][1].get(name) for name in _OF_OTHERS for text in texts)
    ):
        raise ValueError(
            f"{node}: expected prompts and captions of one length beside reference latents of {family.models}, got "
            f"{_counts(lengths)} tokens; remove the reference latents, or end the shorter ones with ' .', which adds "
            "one token each time."
        )
    return [text[0] for text in texts]


def joined(entries: Sequence[dict], family: Family, node: str) -> dict:
    """The host's entry of a conditioning with one row for each entry, which is of one row.

    Raises ValueError for entries with other arguments than text in which they differ.
    """
    parts: list[dict[str, Any]] = [entry["model_conds"] for entry in entries]
    texts = [part[_TEXT].cond for part in parts]
    longest = common_length([text.shape[1] for text in texts], family.text_multiple)
    made: dict[str, Any] = {_TEXT: CONDRegular(torch.cat([_filled(text, longest) for text in texts]))}
    # Networks in which the text places the picture do not read the host's mask.
    given = [{} if family.places_by_text else part for part in parts]
    masks = [_mask(part, text) for part, text in zip(given, texts, strict=True)]
    if any(mask.shape[1] < longest or not bool(mask.all()) for mask in masks):
        made[TEXT_MASK] = CONDRegular(torch.cat([_filled(mask[..., None], longest)[..., 0] for mask in masks]))
    for name in dict.fromkeys(name for part in parts for name in part):
        if name == _LENGTH:
            made[name] = max((part[name] for part in parts), key=lambda length: length.cond)
        elif name not in (_TEXT, _HOSTS_MASK):
            made[name] = _joined([part.get(name) for part in parts], name, node)
    return {**entries[0], "model_conds": made}


def _joined(parts: Sequence[Any], name: str, node: str) -> Any:
    values: list[Any] = [None if part is None else part.cond for part in parts]
    first = parts[0]
    if all(isinstance(v, torch.Tensor) and v.shape == (1, *values[0].shape[1:]) for v in values):
        return type(first)(torch.cat(values))
    if isinstance(first, CONDList) and all(part is not None and first.can_concat(part) for part in parts):
        return CONDList(first.concat(list(parts[1:])))
    if isinstance(first, CONDConstant) and all(part is not None and first.can_concat(part) for part in parts):
        return first
    raise ValueError(
        f"{node}: expected prompts and captions that differ in their text alone, got others in {name}; encode all of "
        "them with the same kind of node and the same settings."
    )


def _filled(values: torch.Tensor, length: int) -> torch.Tensor:
    """[1, n, width] with zeros after it, up to a length."""
    return F.pad(values, (0, 0, 0, length - values.shape[1]))


def _mask(part: dict, text: torch.Tensor) -> torch.Tensor:
    """[1, n]: the host's mask of a text's tokens, or one of ones."""
    given = part.get(_HOSTS_MASK)
    if given is not None and given.cond.shape == text.shape[:2]:
        return given.cond.to(text.device, torch.float32)
    return torch.ones(text.shape[:2], device=text.device)


@dataclass(frozen=True)
class HiddenFilling:
    """APPLY_MODEL wrapper: hides the filling of shorter prompts in the attention of a transformer.

    Its override comes before all others, which get the mask as the network's own.
    """

    family: Family

    def __call__(self, executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options={}, **kwargs):
        options, mask = transformer_options, kwargs.pop(TEXT_MASK, None)
        if mask is not None:
            height, width = self.family.grid((x.shape[-2], x.shape[-1]))
            previous = options.get(OVERRIDE)
            if self.family.places_by_text and isinstance(self.family, DiT):
                hidden: Callable = Placed(self.family, mask, (x.shape[-2], x.shape[-1]), previous)
            else:
                hidden = Masked(Bias(((1 - mask) * HIDDEN)[:, None, None]), height * width, previous)
            options = {**options, OVERRIDE: hidden}
        # By position, as the host calls its wrappers.
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


def _counts(lengths: Sequence[int]) -> str:
    first, last = lengths[:-1], lengths[-1]
    return f"{', '.join(map(str, first))} and {last}"
