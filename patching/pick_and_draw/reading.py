"""What one forward pass with gradients shows to a guided run, and its score (Pick-and-Draw, arXiv 2401.16762, eq.
3-10)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F

from ...kernels.pick_and_draw import layout_loss, saliency_mask
from ...kernels.uremd import uremd
from ..features.taps import token_maps
from ..host.blocks import Layer
from ..host.family import Options
from ..host.frozen_autograd import Stop
from ..host.tokens import Tokens
from .template import scaled_to

if TYPE_CHECKING:
    from .run import GuidanceRun, Term


class Reading:
    """What one forward pass shows, until there is nothing more to see."""

    def __init__(self, run: GuidanceRun, sigma: float):
        self.run, self.sigma = run, sigma
        self.appearance, self.layout = run.acting(sigma)
        self.feature_layers = set(self.appearance.layers if self.appearance else ())
        self.map_layers = set(self.layout.layers if self.layout else ()) | set(
            run.patch.map_layers if self.appearance else ()
        )
        self.features: dict[Layer, torch.Tensor] = {}
        self.maps: dict[Layer, torch.Tensor] = {}
        self.sizes: dict[Layer, tuple[int, int]] = {}
        self.losses: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        """Of appearance and layout, [images] each, without a graph."""
        self._last: tuple[str, Layer] | None = None

    @contextlib.contextmanager
    def anew(self) -> Iterator[None]:
        """Around a forward pass, which may be one more after another that failed: whose graph must be gone by then."""
        self._forget()
        self._last = None
        try:
            yield
        except Stop:
            raise
        except BaseException:  # who keeps it would keep the graph as well
            self._forget()
            raise

    def _forget(self) -> None:
        self.features, self.maps, self.sizes = {}, {}, {}

    def tapped(self, options: Options) -> Options:
        family = self.run.patch.family
        options = family.tap_hidden_states(options, self.feature_layers, self._hidden)
        return family.tap_cross_attention(options, self.map_layers, self._cross)

    def _hidden(self, layer: Layer, hidden: torch.Tensor, tokens: Tokens) -> None:
        if self._last is None:
            self._check(hidden, tokens)
            self.features[layer], self.sizes[layer] = tokens.of_picture(hidden), tokens.size
        self._stop_when_done("hidden", layer)

    def _cross(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, heads: int, tokens: Tokens) -> None:
        if self._last is None:
            self._check(q, tokens)
            self.maps[layer] = self._map(layer, tokens.of_picture(q), k, heads, tokens.size)
        elif self.layout is not None and layer in self.layout.layers:
            self._map(
                layer, tokens.of_picture(q), k, heads, tokens.size
            )  # what is run again must save the same tensors again
        self._stop_when_done("cross", layer)

    def _map(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, heads: int, size: tuple[int, int]) -> torch.Tensor:
        words, node = self.run.patch.words, self.run.patch.node
        with torch.set_grad_enabled(
            self.layout is not None and layer in self.layout.layers and torch.is_grad_enabled()
        ):
            return token_maps(q, k, heads, words.tokens, words.prompt_length, node).mean(-1).unflatten(1, size)

    def _stop_when_done(self, kind: str, layer: Layer) -> None:
        """A part of the network that is run again for its gradient shows the same again, and must end where it ended
        before."""
        if self._last is None and self.features.keys() == self.feature_layers and self.maps.keys() == self.map_layers:
            self._last = (kind, layer)
        if self._last == (kind, layer):
            raise Stop

    def _check(self, values: torch.Tensor, tokens: Tokens) -> None:
        expected = (self.run.images, tokens.total)
        if values.shape[:2] != expected:
            raise ValueError(
                f"{self.run.patch.node}: expected {expected[0]} rows of {expected[1]} positions in attention, got "
                f"{values.shape[0]} of {values.shape[1]}; remove the node that divides or merges attention (such as "
                "HyperTile or ToMe) from model."
            )

    def score(self) -> torch.Tensor:
        """[images]: lambda_app L_app + lambda_lay L_lay, with a graph."""
        missing = (self.feature_layers - self.features.keys()) | (self.map_layers - self.maps.keys())
        if missing:
            names = ", ".join(sorted({f"{layer.kind}{layer.number}" for layer in missing}))
            raise ValueError(
                f"{self.run.patch.node}: expected the model to reach {names}, got a model call without them; "
                "remove the node that skips or replaces these blocks, or answers in the model's place, from model."
            )
        try:
            appearance = None if self.appearance is None else self._appearance(self.appearance)
            layout = None if self.layout is None else self._layout(self.layout)
        finally:
            self._forget()
        self.losses = (None if appearance is None else appearance.detach(), None if layout is None else layout.detach())
        terms = ((self.appearance, appearance), (self.layout, layout))
        weighted = [term.weight * loss for term, loss in terms if term is not None and loss is not None]
        return torch.stack(weighted).sum(0)

    def _appearance(self, term: Term) -> torch.Tensor:
        patch = self.run.patch
        maps = [self.maps[layer] for layer in patch.map_layers]
        _, height, width = max((m.shape for m in maps), key=math.prod)
        salient = saliency_mask(maps, (height, width), patch.threshold)[:, None].float()
        losses = []
        for layer in term.layers:
            small = F.interpolate(salient, self.sizes[layer], mode="area")[:, 0].flatten(1)
            inside = (small >= small.amax(1, keepdim=True).clamp(max=0.5)) & (small > 0)
            palette, weight = self.run.palette_of(layer, self.sigma, self.features[layer])
            features = self.features[layer]
            losses.append(
                torch.stack(
                    [
                        uremd(features[i], palette, patch.direction, generated_mask=inside[i], palette_weight=weight)
                        for i in range(len(features))
                    ]
                )
            )
        return torch.stack(losses).mean(0)

    def _layout(self, term: Term) -> torch.Tensor:
        template = self.run.patch.template
        assert template is not None
        found, wanted = [], []
        for layer in term.layers:
            here = self.maps[layer]
            there = self.run.template_of(layer, self.sigma, here)
            if template.mask is not None:
                there = scaled_to(there, here)
            elif there.shape[1:] != here.shape[1:]:
                there = F.interpolate(there[:, None], tuple(here.shape[1:]), mode="bilinear", align_corners=False)[:, 0]
            found.append(here)
            wanted.append(there.expand_as(here))
        return layout_loss(found, wanted)
