"""The state of one run of a retouch: its steps, its layout's rows and features, its mask."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from ..features.bank import OUTPUT, digest_of
from ..features.host_memory import sent
from ..features.lending import Lender
from ..features.run_features import Features, Made, Side
from ..features.source_rows import SourceRows, aligned, calls_of
from ..features.trajectory import Trajectory
from ..host.blocks import Layer, layers_of
from ..host.live import Live
from ..host.previews import pixels_per_latent
from ..host.reached import check_read
from ..host.rows import take
from ..host.run import Call, Forward
from ..host.window import SigmaWindow
from .mask import MaskRun, SubjectMask
from .path import LayoutPath, reached
from .settings import FORK, NODE, NONE, Layout, RetouchSettings, prompts_of
from .vanilla_attention import VanillaFeatures, VanillaSwap

_ROLE = "layout"
EVERYWHERE = SigmaWindow(math.inf, -math.inf)


@dataclass(kw_only=True, eq=False)
class RetouchRun:
    """One run.

    size: (height, width) of its latents. levels: its sigmas, one per step. window: where the node acts. path: of the
    layout, None without one. mask_blends: True with a mask, under which the layout is blended in. vanilla: the vanilla
    model's part of the layout, None without its model.
    """

    settings: RetouchSettings
    lender: Lender
    size: tuple[int, int]
    levels: tuple[float, ...]
    layout: Layout | None = None
    layout_negative: list | None = None
    window: SigmaWindow = EVERYWHERE
    path: LayoutPath | None = None
    mask_blends: bool = False
    vanilla: VanillaFeatures | None = None
    mask: MaskRun | None = None
    met: set[str] = field(default_factory=set)
    """Parts that the sampler's calls have met: late and blends, the methods of this name."""
    _latest: dict[bool, tuple[tuple, Made]] = field(default_factory=dict)
    _digest: str = ""

    @property
    def steps(self) -> tuple[float, ...]:
        """The noise levels on which lambda_2 and lambda_3 count steps: the layout's where it has been sampled."""
        return self.levels if self.path is None else self.path.steps

    def enters(self, sigma: float) -> bool:
        """Notes the parts that a call of the sampler lies in; True from step lambda_2 on."""
        self.met |= {part for part in ("late", "blends") if getattr(self, part)(sigma)}
        return self.late(sigma)

    def late(self, sigma: float) -> bool:
        """True from step lambda_2 on."""
        return self._reached(sigma, self.settings.lambda_2)

    def blends(self, sigma: float) -> bool:
        """True from step lambda_3 on."""
        return self._reached(sigma, self.settings.lambda_3)

    def reads_maps(self, sigma: float) -> bool:
        """True where the mask of a later step reads the attention maps of this one."""
        lambda_3, follows = self.settings.lambda_3, self.mask is not None and self.mask.mask.follows
        return follows and lambda_3 < len(self.steps) and self._reached(sigma, max(0, lambda_3 - 1))

    def _reached(self, sigma: float, step: int) -> bool:
        if self.path is not None:
            return self.path.reached(step, sigma)
        return reached(self.levels, step, sigma)

    def forks(self, sigma: float) -> bool:
        """True in a step whose answers are the layout's."""
        early = self.path is not None and self.settings.early_swap == FORK
        return early and self.window.contains(sigma) and not self.late(sigma)

    def kind_of(self, sigma: float) -> str:
        """Kind of the step at a noise level, for the node's drawing."""
        if not self.window.contains(sigma) or not self.settings.strength:
            return "plain"
        if self.forks(sigma):
            return "forked from the layout"
        if not self.late(sigma):
            return "plain" if self.path is None or self.settings.early_swap == NONE else "follows the layout"
        return "reference, background kept" if self.mask_blends and self.blends(sigma) else "reference"

    def vanilla_swap(self, call: Call) -> VanillaSwap | None:
        """The vanilla model's attention for an early call; None where it is not known or the layout is not its own.

        Raises ValueError for a call between the noise levels at which the vanilla model was run.
        """
        if self.vanilla is None or self.path is None or not self.of_vanilla(call.sigma):
            return None
        assert isinstance(self.layout, Trajectory)
        number = self.vanilla.call_at(self.layout, self.path.call, call.sigma)
        if number is None:
            raise ValueError(
                f"{NODE}: expected the noise levels of the layout's calls, where vanilla_model was run, got sigma "
                f"{call.sigma:.4f}; give both samplers one sampler, or disconnect vanilla_model."
            )
        return VanillaSwap(self.vanilla, call, number, self.settings.strength)

    def start_mask(self, mask: SubjectMask, call: Call) -> None:
        """Begins the mask with the first call. The threads of several devices get one mask, for all of their maps."""

        def begin() -> MaskRun:
            call.state.at_end(self.finish_mask)
            ratio = pixels_per_latent(call.model.latent_format)
            return MaskRun(mask, self.size, call.x.device, ratio, Live(mask.notices))

        self.mask = call.state.recall((self, "mask"), begin)

    def finish_mask(self) -> None:
        """Shows the last step's mask."""
        if self.mask is not None:
            self.mask.live.finish()

    def mask_of(self, call: Call) -> Callable[[tuple[int, int]], torch.Tensor]:
        """The mask for the call's target rows by layer size: mask((height, width)) -> [targets, height * width, 1]."""
        running = self.mask
        assert running is not None

        def mask(size: tuple[int, int]) -> torch.Tensor:
            made = running.at(call.sigma, size).to(call.x.device, non_blocking=True)
            return call.shown.of_pictures(made, NODE).repeat(call.chunks, 1, 1)

        return mask

    def refuse_parts(self, call: Call) -> None:
        """Raises ValueError for a call that shows a part of the run for which the layout has no part of its own."""
        late, shown = self.late(call.sigma), call.shown
        unused = self.mask is None if late else self.settings.early_swap in (FORK, NONE)
        if self.path is None or shown.whole or (unused and not self.reads_maps(call.sigma)):
            return
        apart = shown.images is None and len(self.path.latents(call.sigma)) > 1
        if (not unused and (apart or (None in shown.areas and not late))) or shown.seen != shown.size:
            raise ValueError(shown.refusal(NODE, ", or disconnect layout"))

    def layout_rows(self, call: Call, flags: Sequence[bool], own: bool = True) -> list[SourceRows]:
        """The layout's rows at the call's noise level, one group per side of guidance.

        own: for a call of their own, of all pictures; otherwise those of the call's pictures.
        """
        assert self.path is not None and self.layout is not None
        latents = sent(self.path.latents(call.sigma), call.x)
        if not own and len(latents) > 1:
            latents = call.shown.of_pictures(latents, NODE)
        positive, negative = prompts_of(self.layout, self.layout_negative)
        features = self.lender.features
        return [
            features.rows(call, _ROLE, flag, latents, positive if flag else negative, of_run=True)
            for flag in dict.fromkeys(flags)
        ]

    def layout_inputs(
        self, call: Call, forward: Forward, layers: Sequence[Layer], cross: bool
    ) -> tuple[dict[Layer, torch.Tensor], dict[Layer, tuple[torch.Tensor, torch.Tensor]]]:
        """Inputs of the layout's self- and cross-attention, by calls of its own, one row per target row.

        cross: False to leave out cross-attention.
        """
        family, sources = self.lender.settings.family, self.layout_rows(call, call.flags)
        order = aligned(call, sources, [len(s.latents) for s in sources])
        hidden: dict[Layer, list[torch.Tensor]] = {}
        crossed: dict[Layer, list[tuple[torch.Tensor, torch.Tensor]]] = {}

        def note_cross(layer, n, context, value):
            crossed.setdefault(layer, []).append((n, context))
            return n, context, value

        for part in calls_of(call, sources):
            options = family.tap_lent(
                part.options, layers, lambda layer, n, _: hidden.setdefault(layer, []).append(n), queries=True
            )
            options = family.change_cross_attention(options, layers, note_cross) if cross else options
            forward(replace(part, options=options))
        check_read(layers, hidden, NODE)
        texts = {
            layer: (
                take(torch.cat([n for n, _ in parts]), order),
                take(torch.cat([text for _, text in parts]), order),
            )
            for layer, parts in crossed.items()
        }
        return {layer: take(torch.cat(parts), order) for layer, parts in hidden.items()}, texts

    def layout_outputs(self, call: Call, forward: Forward) -> Features:
        """The layout's self-attention outputs for the target's rows: from its bank, the last call, or a call now."""
        layers, features = layers_of(self.lender.settings.blocks), self.lender.features
        parts: dict[bool, Features] = {}
        missing = []
        for flag in dict.fromkeys(call.flags):
            known = self._known(call, flag, layers)
            if known is None:
                missing.append(flag)
            else:
                parts[flag] = known
        if missing:
            if self.of_vanilla(call.sigma):
                self.refuse_vanilla(call.sigma)
            rows = self.layout_rows(call, missing)
            made = features.read(call, forward, layers=layers, sources=rows, kind=OUTPUT, node=NODE)
            for flag in missing:
                parts[flag] = made[flag]
                self._keep(call, flag, made[flag])
        return {
            layer: torch.cat(
                [
                    call.shown.of_pictures(parts[flag][layer].to(call.x.device, non_blocking=True), NODE)
                    for flag in call.flags
                ]
            )
            for layer in layers
        }

    def _known(self, call: Call, flag: bool, layers: Sequence[Layer]) -> Features | None:
        """The layout's outputs at the sampler's current call, from the bank or from the last of its own calls."""
        latest = self._latest.get(flag)
        if latest is not None and latest[0] == self._moment(call) and latest[1].holds_for(call):
            return latest[1].features
        if self._is_one_call(call.sigma) or self.of_vanilla(call.sigma):
            weights, features = self._weights(call.sigma), self.lender.features
            weights = features.good_for(call) if weights is None else weights
            return features.in_bank(self._side(flag), call.sigma, layers, weights) or self._of_vanilla_model(
                call.sigma, flag, layers
            )
        return None

    def _of_vanilla_model(self, sigma: float, flag: bool, layers: Sequence[Layer]) -> Features | None:
        """The layout's outputs in a step that the vanilla model made again for this run."""
        if self.vanilla is None or not self.of_vanilla(sigma):
            return None
        side = self._side(flag)._replace(bank=self.vanilla.outputs)
        return self.lender.features.in_bank(side, sigma, layers, ("",))

    def _keep(self, call: Call, flag: bool, made: Features) -> None:
        self._latest[flag] = (self._moment(call), Made.by(call, made))
        if self._is_one_call(call.sigma):
            self.lender.features.keep(call, self._side(flag), made)

    def _moment(self, call: Call) -> tuple:
        assert self.path is not None
        return (call.sigma, self.path.call, call.x.device)

    def _is_one_call(self, sigma: float) -> bool:
        """True where a noise level tells the layout's latents, as it does unless a sampler looks twice at it."""
        return not isinstance(self.layout, Trajectory) or self.layout.visits_once(sigma)

    def layout_is_known(self, sigma: float, flag: bool) -> bool:
        """True where the bank holds the layout's outputs at a noise level, so that its rows need not be run."""
        if self.layout is None:
            return False
        layers = layers_of(self.lender.settings.blocks)
        known = self.lender.features.in_bank(self._side(flag), sigma, layers, self._weights(sigma))
        return known is not None or self._of_vanilla_model(sigma, flag, layers) is not None

    def _side(self, flag: bool) -> Side:
        assert self.layout is not None
        return Side(_ROLE, flag, OUTPUT, self.layout.bank, self._negative_digest(flag))

    def _negative_digest(self, flag: bool) -> str:
        """The digest of the prompt of a picture's unconditional rows, which a trajectory has of its own."""
        if flag or isinstance(self.layout, Trajectory) or self.layout_negative is None:
            return ""
        if not self._digest:
            self._digest = digest_of(self.layout_negative)
        return self._digest

    def _weights(self, sigma: float) -> tuple[str, ...] | None:
        """The features of the vanilla model's steps are those that the layout's own run recorded, in every mode."""
        return ("",) if self.of_vanilla(sigma) else None

    def of_vanilla(self, sigma: float) -> bool:
        """True where the layout's run called the vanilla model, whose features this run cannot compute."""
        return isinstance(self.layout, Trajectory) and sigma > self.layout.switch_sigma

    def refuse_vanilla(self, sigma: float) -> None:
        """Raises ValueError for features that only the vanilla model could make."""
        settings, switch = self.settings, "switch_percent" if self.settings.by_percent else "switch_step"
        raise ValueError(
            f"{NODE}: expected the layout's features from lambda_3 {settings.lambda_3} on, got none of the vanilla "
            f"model's steps (sigma {sigma:.4f}); raise {settings.names[1]} to the layout's {switch}, or write the "
            "same blocks into its record_blocks."
        )
