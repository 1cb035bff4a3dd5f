"""The view from a point of a retouched picture: into itself and into the references."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import comfy.samplers
import torch

from ..features.lending import SEQUENTIAL, Lender
from ..features.looking import Looks, Shown, View, check_picture
from ..features.references import Reference
from ..host.attach import attach, bare
from ..host.blocks import Layer
from ..host.run import Call, Patch
from ..host.tokens import Tokens
from ..host.window import Window
from .settings import NODE, NONE, STEP, RetouchSettings

if TYPE_CHECKING:
    from comfy.samplers import CFGGuider

Place = Callable[[Layer], tuple[tuple[int, int], torch.Tensor | None]]
"""place(layer): (height, width) of a reference's tokens there, and the indices of those that are lent, None for all."""


@dataclass(frozen=True, eq=False)
class ReferenceLooks:
    """Records where a point of the target looks: in the target, then in each reference. places: of the references."""

    looks: Looks
    places: tuple[Place, ...]

    def record(self, layer: Layer, row: torch.Tensor, own: int, counts: Sequence[int], tokens: Tokens) -> None:
        """row: [keys], the weights of the target's `own` keys, then those of each reference."""
        picture = row[: tokens.picture] if own else row.new_zeros(tokens.picture)
        maps = [picture.view(tokens.size)]
        for weights, place in zip(row[len(row) - sum(counts) :].split(list(counts)), self.places, strict=True):
            size, chosen = place(layer)
            whole = weights if chosen is None else row.new_zeros(size[0] * size[1]).index_copy(0, chosen, weights)
            maps.append(whole.view(size))
        self.looks.record(layer, maps)


def reference_looks(looks: Looks | None, lender: Lender, call: Call) -> ReferenceLooks | None:
    """The recorder for one model call; None without a Looks."""
    if looks is None:
        return None
    network, family = call.model.diffusion_model, lender.settings.family
    network = getattr(network, "_orig_mod", network)

    def place_of(reference: Reference) -> Place:
        shapes, tokens = family.hidden_shapes(network, reference.size), lender.tokens_of(reference, call.x.device)
        return lambda layer: (shapes[layer][0], tokens(shapes[layer][0]))

    return ReferenceLooks(looks, tuple(place_of(reference) for reference in lender.references))


def late_alone(settings: RetouchSettings) -> RetouchSettings:
    """The settings of a run that borrows from the references at every noise level, and follows no layout."""
    return replace(settings, early_swap=NONE, lambda_2=0, lambda_3=0, lambdas_by=STEP, mode=SEQUENTIAL)


def view_of(
    patch_for: Callable[[Looks], Patch],
    references: Sequence[Reference],
    *,
    guider: CFGGuider,
    samples: torch.Tensor,
    looks: Looks,
    window: Window,
    node: str,
) -> View:
    """The view of the picture with the point, which comes first, and of the references.

    patch_for(looks): the retouch to make the calls with. Raises ValueError as `features.looking.Viewed.view`.
    """
    chosen, prompt = looks.point.picture, guider.original_conds.get("positive")
    check_picture(chosen + 1, len(samples), node)
    if not prompt or not references:
        raise ValueError(
            f"{node}: expected a guider with a positive prompt and with {NODE} of a reference in its model, got "
            f"{'one without references' if prompt else 'no positive prompt'}; connect CFGGuider or BasicGuider with "
            "the model of that node."
        )
    if any(entry.get("area") is not None for entry in prompt):
        raise ValueError(
            f"{node}: expected a positive prompt for the whole picture, got one for an area; connect a guider whose "
            "prompt has none."
        )
    plain = bare(guider.model_patcher)
    watched = comfy.samplers.CFGGuider(attach(plain, patch_for(replace(looks, point=replace(looks.point, picture=0)))))
    watched.original_conds = {"positive": prompt}
    one = samples[chosen : chosen + 1]
    given = [reference.fitted(plain, NODE).latent["samples"] for reference in references]
    shown = [Shown(f"picture {chosen + 1}", one, chosen + 1)]
    shown += [Shown(f"reference {i + 1}", latent) for i, latent in enumerate(given)]
    return View(watched, one, tuple(shown), 0, window, NODE)
