"""A forward pass with gradients as guidance reads it, and its score (Pick-and-Draw, arXiv 2401.16762, eq. 3-10)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.heatmaps import inside, mean_heatmap, min_max
from ...kernels.pick_and_draw import layout_loss, saliency_mask, score
from ...kernels.uremd import uremd
from ..features.taps import text_length, token_maps
from ..host.blocks import Layer
from ..host.family import LATENT, Options
from ..host.frozen_autograd import Stop
from ..host.rows import take
from ..host.tokens import Tokens
from .parts import Part, check_call
from .regions import Regions
from .settings import NODE, GuidanceSettings, Term, Terms

_KEY = "likeness.reading"

PaletteOf = Callable[[Layer, torch.Tensor], tuple[torch.Tensor, torch.Tensor | None]]
"""(layer, generated features) -> the palette's tokens [m, channels], and their weights [m] or None."""

TemplateOf = Callable[[Layer, torch.Tensor], torch.Tensor]
"""(layer, generated map [images, height, width]) -> the template's map, [images or 1, height, width]."""


class Reading:
    """Features and maps of one forward pass, which ends once all of them are read."""

    def __init__(
        self,
        settings: GuidanceSettings,
        terms: Terms,
        part: Part,
        prompt: torch.Tensor | None,
        palette: PaletteOf,
        template: TemplateOf,
        draws: bool = False,
    ):
        """terms: those that act at this step; part: the images and the area that are read; prompt: their text.

        draws: True to keep the words' attention as a picture.
        """
        self._draws = draws
        self.settings, self.terms, self.part, self.palette, self.template = settings, terms, part, palette, template
        self.images = len(part.images)
        self.regions = Regions(prompt, self.images, NODE)
        self.feature_layers = set(terms.appearance.layers if terms.appearance else ())
        self.layout_layers = set(terms.layout.layers if terms.layout else ())
        self.map_layers = self.layout_layers | set(settings.map_layers if terms.appearance else ())
        self.features: dict[Layer, torch.Tensor] = {}
        self.maps: dict[Layer, torch.Tensor] = {}
        self.sizes: dict[Layer, tuple[int, int]] = {}
        self.losses: tuple[torch.Tensor | None, torch.Tensor | None] = (None, None)
        """Appearance and layout loss, [images] each, without a graph."""
        self.salient: torch.Tensor | None = None
        """The generated subject's area, bool [images, height, width], where appearance acts."""
        self.heat: torch.Tensor | None = None
        """The words' attention as a picture, [images, height, width] in 0..1, where `draws` asks for it."""
        self._last: tuple[str, Layer] | None = None

    @contextlib.contextmanager
    def forward_pass(self) -> Iterator[None]:
        """Surrounds one forward pass.

        A pass that failed may be repeated, and its graph must be gone by then.
        """
        self._forget()
        self._last = None
        try:
            yield
        except Stop:
            raise
        except BaseException:  # whoever keeps the exception would keep the graph
            self._forget()
            raise

    def _forget(self) -> None:
        self.features, self.maps, self.sizes = {}, {}, {}

    def tapped(self, options: Options) -> Options:
        """A copy of a model call's `transformer_options` that shows the layers to this reading."""
        family, wrappers = self.settings.family, options.get("wrappers", {})
        calls = {**wrappers.get(WrappersMP.APPLY_MODEL, {}), _KEY: [self._call]}
        options = {**options, LATENT: self.part.shape, "wrappers": {**wrappers, WrappersMP.APPLY_MODEL: calls}}
        options = family.tap_features(options, self.settings.features, self.feature_layers, self._hidden)
        options = family.change_cross_attention(options, self.map_layers, self.regions.note)
        return family.tap_cross_attention(options, self.map_layers, self._cross)

    def _call(self, executor, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        check_call(x, self.part, NODE)
        return executor(x, *args, **kwargs)

    def _hidden(self, layer: Layer, hidden: torch.Tensor, tokens: Tokens) -> None:
        if self._last is None:
            self._check(hidden, tokens)
            self.features[layer], self.sizes[layer] = tokens.of_picture(hidden), tokens.size
        self._stop_when_done("hidden", layer)

    def _cross(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, heads: int, tokens: Tokens) -> None:
        # A recomputed layer must save the same tensors again.
        if self._last is None or layer in self.layout_layers:
            rows = self.regions.rows(layer, len(q)) if q.shape[1] == tokens.total else None
            if rows is not None:
                q, k = take(q, rows), take(k, rows)
            self._check(q, tokens)
            made = self._map(layer, tokens.of_picture(q), k, heads, tokens.size)
            if self._last is None:
                self.maps[layer] = made
        self._stop_when_done("cross", layer)

    def _map(self, layer: Layer, q: torch.Tensor, k: torch.Tensor, heads: int, size: tuple[int, int]) -> torch.Tensor:
        """[images, *size]: the words' share of a layer's attention, with a graph where the layout loss reads it."""
        words = self.settings.words
        length = text_length(self.settings.family, words.prompt_length, k.shape[1])
        with torch.set_grad_enabled(layer in self.layout_layers and torch.is_grad_enabled()):
            shares = token_maps(q, k, heads, tokens=words.tokens, prompt_length=length, node=NODE)
            return shares.mean(-1).unflatten(1, size)

    def _stop_when_done(self, kind: str, layer: Layer) -> None:
        """Ends the pass after the last layer that is read, and its recomputation for the gradient at the same layer."""
        if self._last is None and self.features.keys() == self.feature_layers and self.maps.keys() == self.map_layers:
            self._last = (kind, layer)
        if self._last == (kind, layer):
            raise Stop

    def _check(self, values: torch.Tensor, tokens: Tokens) -> None:
        expected = (self.images, tokens.total)
        if values.shape[:2] != expected:
            raise ValueError(
                f"{NODE}: expected {expected[0]} rows of {expected[1]} positions in attention, got "
                f"{values.shape[0]} of {values.shape[1]}; remove the node that divides or merges the tokens of these "
                "layers from model."
            )

    def score(self) -> torch.Tensor:
        """lambda_app L_app + lambda_lay L_lay, [images], with a graph.

        Raises ValueError where the pass did not reach a layer that is read.
        """
        missing = (self.feature_layers - self.features.keys()) | (self.map_layers - self.maps.keys())
        if missing:
            names = ", ".join(sorted({f"{layer.kind}{layer.number}" for layer in missing}))
            raise ValueError(
                f"{NODE}: expected the model to reach {names}, got a model call without them; "
                "remove the node that skips or replaces these blocks, or answers in the model's place, from model."
            )
        if self._draws:
            seen = [maps.detach() for maps in self.maps.values()]
            _, height, width = max((maps.shape for maps in seen), key=math.prod)
            self.heat = min_max(mean_heatmap(seen, (height, width)))
        try:
            appearance = None if self.terms.appearance is None else self._appearance(self.terms.appearance)
            layout = None if self.terms.layout is None else self._layout(self.terms.layout)
        finally:
            self._forget()
        self.losses = (None if appearance is None else appearance.detach(), None if layout is None else layout.detach())
        weighted = zip(self.terms, (appearance, layout), strict=True)
        return score([(term.weight, loss) for term, loss in weighted if term is not None and loss is not None])

    def _appearance(self, term: Term) -> torch.Tensor:
        """[images]: the distance of the generated subject's tokens to the palette, averaged over layers."""
        settings = self.settings
        maps = [self.maps[layer] for layer in settings.map_layers]
        _, height, width = max((m.shape for m in maps), key=math.prod)
        self.salient = salient = saliency_mask(maps, (height, width), settings.threshold)
        losses = []
        for layer in term.layers:
            features, subject = self.features[layer], inside(salient, self.sizes[layer])
            palette, weight = self.palette(layer, features)
            distances = [
                uremd(features[i], palette, settings.direction, generated_mask=subject[i], palette_weight=weight)
                for i in range(len(features))
            ]
            losses.append(torch.stack(distances))
        return torch.stack(losses).mean(0)

    def _layout(self, term: Term) -> torch.Tensor:
        """[images]: the difference of the generated maps to the template's."""
        found = [self.maps[layer] for layer in term.layers]
        wanted = [self.template(layer, here).expand_as(here) for layer, here in zip(term.layers, found, strict=True)]
        return layout_loss(found, wanted, self.settings.kernel_size, self.settings.kernel_width)
