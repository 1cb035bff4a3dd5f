"""One step of sampling a set: its passes, their guidance, and what other nodes evaluate beside them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import comfy.samplers
import torch
from comfy.patcher_extension import WrappersMP

from ...kernels.jedi import ordered_guidance
from ..host.blocks import Layer
from ..host.family import LATENT, Options
from ..host.tokens import Tokens
from .calls import CoupledCalls, OtherEvaluations, with_first, without
from .coupling import Coupling
from .run import TEXT_ONLY, JointRun

KEY = "likeness.joint"
ALONE, NULL, SET, SET_WITHOUT_TEXT = "positive", "negative", "positive_set", "negative_set"
"""Names of a step's passes and of their conditionings: pictures alone or in their set, with prompts or without."""
OF_SETS = (SET, SET_WITHOUT_TEXT)

_CALCULATE = "sampler_calc_cond_batch_function"
_PATCHES = ("attn1_patch", "attn2_patch", "attn1_output_patch", "attn2_output_patch", "middle_patch")


class Guider(Protocol):
    """The guider of a set: the host's BaseModel, the conditionings of the passes by name, the node for messages."""

    inner_model: Any
    conds: dict[str, Any]
    node: str


class SetStep:
    """The passes of one step, each made at most once.

    keeps: True for the sampler's own evaluation, whose references go on to the next step.
    """

    def __init__(
        self,
        guider: Guider,
        run: JointRun,
        x: torch.Tensor,
        timestep: torch.Tensor,
        *,
        sigma: float,
        options: dict,
        keeps: bool = True,
    ):
        self._guider, self._run, self._x, self._t, self._options = guider, run, x, timestep, options
        self._sigma, self._keeps = sigma, keeps
        self._rows = run.with_references(x, self._sigma)
        self._made: dict[str, torch.Tensor] = {}

    def guided(self, name: str, without_text: str, scale: float) -> torch.Tensor:
        """s_without_text + scale (s_name - s_without_text): equation 3 of JeDi, the host's classifier-free guidance."""

        def predictions(both: bool) -> list[torch.Tensor]:
            if both:
                return self._pair(name, without_text)
            return [self._of(name), torch.zeros_like(self._x)]

        return self._sampled(predictions, scale)

    def guided_in_order(self, partial: str, first: float, second: float) -> torch.Tensor:
        """Equation 4 of JeDi by `kernels.jedi.ordered_guidance`, without passes of weight 0."""
        part = self._of(partial)
        null = part if first == 1 else self._of(NULL)
        full = part if second == 0 else self._of(SET)
        mixed = ordered_guidance(null, part, full, first, second)
        # Some samplers step along the negative pass and request it even if guidance does not need it.
        return self._sampled(lambda both: [mixed, self._of(NULL) if both else null], 1.0)

    def of_set(self) -> torch.Tensor:
        """Denoised latents of the generated pictures in the pass of the set with its prompts, without guidance."""
        return self._of(SET)

    def _sampled(self, predictions: Callable[[bool], list[torch.Tensor]], scale: float) -> torch.Tensor:
        """The host's guidance of two predictions, with the functions that other packs added to it."""

        def calculate(args: dict) -> list[torch.Tensor]:
            if args["input"] is self._x:
                return predictions(args["conds"][1] is not None)
            return self._beside(args["conds"], args["input"], args["sigma"], args["model_options"])

        guider, conds = self._guider, self._guider.conds
        options = with_first(self._options, WrappersMP.CALC_COND_BATCH, KEY, OtherEvaluations(self._beside))
        return comfy.samplers.sampling_function(
            guider.inner_model, self._x, self._t, conds[NULL], conds[ALONE], scale, {**options, _CALCULATE: calculate}
        )

    def _beside(
        self, conditions: Sequence, x: torch.Tensor, timestep: torch.Tensor, options: dict
    ) -> list[torch.Tensor]:
        """Evaluates what another node asks for beside the sampler's own passes: a prompt's pictures in their set.

        conditions: entries of conditionings, or None. Raises ValueError for latents of other pictures.
        """
        options = without(options, WrappersMP.CALC_COND_BATCH, KEY)
        options = {name: value for name, value in options.items() if name != _CALCULATE}
        if _CALCULATE in self._options:
            options[_CALCULATE] = self._options[_CALCULATE]
        if x.shape != self._x.shape:
            raise ValueError(
                f"{self._guider.node}: expected other guidance to evaluate the {len(self._x)} pictures of the set, got "
                f"latents of shape {tuple(x.shape)}; remove the node that adds this guidance from model."
            )
        sigma = float(timestep.max())
        if not self._run.couples(sigma):
            return comfy.samplers.calc_cond_batch(self._guider.inner_model, list(conditions), x, timestep, options)
        step = SetStep(self._guider, self._run, x, timestep, sigma=sigma, options=options, keeps=False)
        return step.of_conditions(conditions)

    def of_conditions(self, conditions: Sequence) -> list[torch.Tensor]:
        """Denoised latents of the generated pictures per conditioning; the sampler's own are passes of the set."""
        return [
            torch.zeros_like(self._x) if entries is None else self._of_entries(entries, i, len(conditions))
            for i, entries in enumerate(conditions)
        ]

    def _of_entries(self, entries: list, index: int, count: int) -> torch.Tensor:
        conds, in_set = self._guider.conds, self._run.settings.guidance == TEXT_ONLY
        uuids = {entry.get("uuid") for entry in entries}
        if uuids & {entry.get("uuid") for entry in conds[ALONE]}:
            entries, in_set = conds[SET], True
        elif uuids & {entry.get("uuid") for entry in conds[NULL]}:
            entries = conds[SET_WITHOUT_TEXT] if in_set else conds[NULL]
        placed = [entries if i == index else None for i in range(count)]
        if not in_set:
            return self._evaluated(placed, self._x, self._options)[index]
        options = self._coupled({index: self._coupling(SET if entries is conds[SET] else SET_WITHOUT_TEXT)})
        return self._run.split(self._evaluated(placed, self._rows, options)[index])[0]

    def _of(self, name: str) -> torch.Tensor:
        """Denoised latents of the generated pictures in one pass."""
        if name not in self._made:
            index = 0 if name in (ALONE, SET) else 1
            if name in OF_SETS:
                self._made[name] = self._in_set({name: index})[name]
            else:
                self._made[name] = self._evaluated(self._placed({name: index}), self._x, self._options)[index]
        return self._made[name]

    def _pair(self, name: str, other: str) -> list[torch.Tensor]:
        """Denoised latents of two passes, in one call where another node patches attention.

        Such a patch may compare the two sides of guidance, which it only sees in one call.
        """
        if not (self._made.keys() & {name, other}) and _compares_sides(self._options, self._run.settings.layers):
            self._made |= self._in_set({name: 0, other: 1})
        return [self._of(name), self._of(other)]

    def _in_set(self, passes: dict[str, int]) -> dict[str, torch.Tensor]:
        """The passes of sets, of all members. passes: by name, their index among the host's conditionings."""
        run = self._run
        options = self._coupled({index: self._coupling(name) for name, index in passes.items() if name in OF_SETS})
        found = self._evaluated(self._placed(passes), self._rows, options)
        made = {}
        for name, index in passes.items():
            made[name], references = run.split(found[index])
            if self._keeps and name in OF_SETS:
                run.keep(self._sigma, run.split(self._rows)[1], references, preferred=name == SET)
        return made

    def _coupled(self, changes: dict[int, Coupling]) -> dict:
        """Options that couple the prompts of the given indices."""
        run, node = self._run, self._guider.node
        calls = CoupledCalls(node, run.family, run.settings.layers, tuple(self._rows.shape), changes, run.reached)
        return with_first(self._options, WrappersMP.APPLY_MODEL, KEY, calls)

    def _coupling(self, name: str) -> Coupling:
        run = self._run
        vanilla = self._vanilla(ALONE if name == SET else NULL) if run.blends(self._sigma) else None
        return run.coupling(self._guider.node, self._sigma, vanilla)

    def _vanilla(self, name: str) -> dict[Layer, torch.Tensor]:
        """Features of uncoupled pictures at the coupled layers; also caches the prediction for guidance."""
        seen: dict[Layer, torch.Tensor] = {}

        def read(layer: Layer, hidden: torch.Tensor, tokens: Tokens) -> None:
            seen[layer] = hidden

        family, layers = self._run.family, self._run.settings.layers
        shape = {LATENT: tuple(self._x.shape)}
        options = _with(self._options, lambda o: family.tap_lent({**o, **shape}, layers, read, queries=True))
        index = 0 if name == ALONE else 1
        self._made[name] = self._evaluated(self._placed({name: index}), self._x, options)[index]
        return seen

    def _placed(self, passes: dict[str, int]) -> list:
        """The conditionings of passes at their indices: other packs tell the sides apart by the position."""
        placed: list = [None, None]
        for name, index in passes.items():
            placed[index] = self._guider.conds[name]
        return placed

    def _evaluated(self, conditions: list, x: torch.Tensor, options: dict) -> list[torch.Tensor]:
        model, t = self._guider.inner_model, self._t[:1].expand(len(x))
        other = options.get(_CALCULATE)
        if other is not None:
            return other({"conds": conditions, "input": x, "sigma": t, "model": model, "model_options": options})
        return comfy.samplers.calc_cond_batch(model, conditions, x, t, options)


def _with(options: dict, change: Callable[[Options], Options]) -> dict:
    return {**options, "transformer_options": change(options.get("transformer_options", {}))}


def _compares_sides(options: dict, layers: Collection[Layer]) -> bool:
    """True where another node patches attention. A replacement counts rows by itself, so it gets one side at a time."""
    transformer = options.get("transformer_options", {})
    slots = transformer.get("patches_replace", {}).get("attn1", {})
    patches = transformer.get("patches", {})
    return any(patches.get(name) for name in _PATCHES) and not any(la in slots or la[:2] in slots for la in layers)
