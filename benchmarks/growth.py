"""Growth of time with references, batch, picture size, set size and tokens, beside that of the work itself."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..kernels.uremd import uremd
from ..patching.features.references import NOISED, Reference, References
from ..patching.layout_and_retouch.build import retouch
from ..patching.layout_and_retouch.settings import NONE, RetouchSettings
from . import jedi_costs, pick_and_draw_runs
from .flops import counted
from .layout_and_retouch_runs import layout, mask, picture
from .networks import NARROW_CONFIG, Network, random_network
from .report import Report, Target
from .timing import SEED, plain, seconds_of, silence

REFERENCES, BATCHES, SIDES, SETS = (1, 2, 4, 8), (1, 2, 4, 8), (512, 768, 1024, 1536), (1, 2, 4, 8, 16)
TOKENS, CHANNELS = (1024, 4096, 16384, 65536), 320
SMALL_SIDE = 256
"""Side in pixels of the pictures in rows that vary something else."""
STEPS, ROUNDS = 2, 3
SLACK = 0.15
NOTES = (
    "Each row runs one method while a single size grows. time exponent: slope of the logarithm of the time over that "
    "of the size, between the two largest sizes; work exponent: the same of the floating-point operations, which "
    "PyTorch counts. 1 is proportional growth, 2 quadratic growth.",
    "seconds: median of three runs at the largest size, beside them the factor to the smallest size.",
    f"The network has all blocks of SD 1.5 with a tenth of its channels, in float32, and runs {STEPS} steps, so that "
    "attention counts for more than in a full network. Pictures have 256 pixels a side where the size does not grow.",
    f"A figure is the time exponent less the work exponent: at most {SLACK} where nothing grows faster than its work.",
)


@dataclass(frozen=True)
class Axis:
    """One size that grows. run: makes a run at a size, ready to be timed, filled banks included."""

    name: str
    figure: str
    sizes: Sequence[int]
    run: Callable[[int], Callable[[], object]]


@dataclass(frozen=True)
class Growth:
    """Seconds and floating-point operations at each size."""

    sizes: Sequence[int]
    seconds: list[float]
    operations: list[float]

    def exponents(self) -> tuple[float, float]:
        """Exponents of the time and of the work, between the two largest sizes."""
        return _slope(self.sizes, self.seconds), _slope(self.sizes, self.operations)


def run(quick: bool) -> Report:
    """Measures all axes. quick: the two smallest sizes of each."""
    rows: list[dict[str, Any]] = []
    figures: dict[str, float | None] = {}
    for axis in axes():
        sizes = axis.sizes[:2] if quick else axis.sizes
        with silence():
            found = measured(dataclasses.replace(axis, sizes=sizes), 1 if quick else ROUNDS)
        time_exponent, work_exponent = found.exponents()
        figures[f"{axis.figure}_excess"] = time_exponent - work_exponent
        rows.append(
            {
                "name": f"{axis.name}, {sizes[0]} to {sizes[-1]}",
                "time exponent": [time_exponent],
                "work exponent": [work_exponent],
                "seconds": [found.seconds[-1]],
                "factor": [found.seconds[-1] / found.seconds[0]],
            }
        )
        print(f"{axis.name}: {[round(value, 3) for value in found.seconds]} s", flush=True)
    return Report("growth", rows, figures, {name: Target("at most", SLACK) for name in figures}, NOTES)


def measured(axis: Axis, rounds: int) -> Growth:
    """Times each size in rounds over all, so that a busy machine slows them alike."""
    runs = [axis.run(size) for size in axis.sizes]
    operations = [counted(one) for one in runs]
    took = [[seconds_of(one) for one in runs] for _ in range(rounds)]
    return Growth(axis.sizes, np.median(took, 0).tolist(), operations)


def _slope(sizes: Sequence[int], values: Sequence[float]) -> float:
    return math.log(values[-1] / values[-2]) / math.log(sizes[-1] / sizes[-2])


def axes() -> Iterator[Axis]:
    """Axes of all methods."""
    small = _network(SMALL_SIDE)
    yield Axis("references of a banked retouch", "references", REFERENCES, lambda n: _retouched(small, references=n))
    yield Axis("batch of a banked retouch", "batch", BATCHES, lambda n: _retouched(small, batch=n))
    yield Axis("side in pixels of a banked retouch", "retouch_side", SIDES, lambda n: _retouched(_network(n)))
    yield Axis("batch of a guided run", "guided_batch", BATCHES, lambda n: _guided(small, batch=n))
    yield Axis("references of a guided run", "guided_references", REFERENCES, lambda n: _guided(small, references=n))
    yield Axis("side in pixels of a guided run", "guided_side", SIDES, lambda n: _guided(_network(n)))
    yield Axis("pictures of a set", "set", SETS, lambda n: lambda: jedi_costs.pictures(small, n))
    yield Axis("references of a set", "set_references", REFERENCES, lambda n: lambda: jedi_costs.pictures(small, 1, n))
    yield Axis("tokens of the appearance loss", "tokens", TOKENS, _loss)


def _network(side: int) -> Network:
    return random_network("narrow SD 1.5", "", NARROW_CONFIG, torch.float32, side // 8, STEPS)


def _retouched(network: Network, references: int = 1, batch: int = 1) -> Callable[[], object]:
    network = dataclasses.replace(network, count=batch)
    _, trajectory = layout(network, "paper", 0)
    lent = References(tuple(_reference(network, seed) for seed in range(references)))
    patched = retouch(
        network.personalized, lent, trajectory, mask(network), RetouchSettings(early_swap=NONE, lambda_2=0, lambda_3=0)
    )
    return _filled(lambda: plain(network, patched, network.personalized_positive))


def _reference(network: Network, seed: int) -> Reference:
    """Random pixels with noise; an inversion would be made before the timed runs."""
    (one,) = picture(network).items
    return dataclasses.replace(one, kind=NOISED, seed=seed)


def _guided(network: Network, references: int = 1, batch: int = 1) -> Callable[[], object]:
    network = dataclasses.replace(network, count=batch)
    lent = References(tuple(_reference(network, seed) for seed in range(references)))
    known = dataclasses.replace(pick_and_draw_runs.palette(network), references=lent)
    made = pick_and_draw_runs.settings(network, 1.0, 1.0)
    recorded = pick_and_draw_runs.template(network)
    patched = pick_and_draw_runs.guide(network.personalized, network.clip, known, recorded, made)[0]
    return _filled(lambda: plain(network, patched, network.personalized_positive))


def _filled(one: Callable[[], object]) -> Callable[[], object]:
    """The run, after it has made what later runs reuse."""
    one()
    return one


def _loss(tokens: int) -> Callable[[], object]:
    generator = torch.Generator().manual_seed(SEED)
    generated, palette = (torch.randn(tokens, CHANNELS, generator=generator) for _ in range(2))

    def one() -> object:
        with torch.inference_mode(False), torch.enable_grad():
            own = generated.clone().requires_grad_()
            return torch.autograd.grad(uremd(own, palette.clone()), own)

    return one
