"""Rows of `run.py bench gpu`: each measures one variant, or one size of the appearance loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
import comfy.supported_models
import torch

from . import overhead
from .gpu_trace import traced
from .jedi_costs import set_variants
from .layout_and_retouch_runs import kept_variants, retouch_variants
from .memory import peak_bytes
from .networks import (
    FULL_SIZE_CONFIG,
    NARROW_CONFIG,
    NARROW_SDXL_CONFIG,
    SDXL_CONFIG,
    Network,
    compiled_network,
    random_network,
    small_network,
)
from .pick_and_draw_runs import autograd_variants, guided_variants, shortened_variants
from .report import median_interval
from .timing import Variant, compare
from .transformer_networks import TRANSFORMERS, Kind
from .uremd_costs import SIZES, random_tokens, rounds, runs_of
from .waits import counted_waits

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
GIB = 2**30
KINDS = {
    "sd15": Kind("SD 1.5 size", FULL_SIZE_CONFIG, NARROW_CONFIG, 64, comfy.supported_models.SD15),
    "sdxl": Kind("SDXL size", SDXL_CONFIG, NARROW_SDXL_CONFIG, 128, comfy.supported_models.SDXL),
    **TRANSFORMERS,
}


@dataclass(frozen=True)
class Row:
    """Row of the table: `measure` gives its metrics as lists of 1 or 3 numbers, and its figures."""

    name: str
    measure: Callable[[], tuple[dict[str, list[float]], dict[str, float]]]


@dataclass(frozen=True)
class Amounts:
    """Sizes of the timed runs, and the seconds and rounds of each row."""

    steps: int
    seconds: float
    fewest_rounds: int
    sets: tuple[int, ...]
    tokens: tuple[int, ...]
    small: bool


FULL = Amounts(steps=10, seconds=1.5, fewest_rounds=3, sets=(1, 2, 4, 8), tokens=tuple(SIZES), small=False)
QUICK = Amounts(steps=2, seconds=0.0, fewest_rounds=1, sets=(1, 2), tokens=(1024,), small=True)


@dataclass
class Networks:
    """Networks by name, such as sd15_fp16; each is made when it is first asked for."""

    amounts: Amounts
    _made: dict[str, Network] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Network:
        if name not in self._made:
            self._made[name] = self._make(*name.split("_"))
        return self._made[name]

    def _make(self, kind: str, dtype_name: str) -> Network:
        # Not every layer of a CPU takes half precision.
        on_cpu = comfy.model_management.get_torch_device().type == "cpu"
        dtype = DTYPES["fp32" if on_cpu else dtype_name]
        made_of, small = KINDS[kind], self.amounts.small
        made = random_network(
            f"narrow {made_of.name}" if small else made_of.name,
            "",
            made_of.narrow if small else made_of.full,
            dtype,
            8 if small else made_of.side,
            min(self.amounts.steps, made_of.most_steps),
            made_of.family,
        )
        shown = f"{made.name}, {8 * made.side} pixels, {dtype_name}{' (computed in fp32)' if on_cpu else ''}"
        return replace(made, name=shown, prefix=f"{kind}_{dtype_name}_")


@dataclass(frozen=True)
class Group:
    """Rows that need the same things to be prepared."""

    name: str
    rows: Callable[[Networks], list[Row]]


def groups() -> list[Group]:
    """Groups of rows, the most wanted first."""

    def costs(network: str, kind: str) -> Group:
        return Group(f"{network} {kind}", lambda networks: _variant_rows(networks, network, kind))

    return [
        *(costs("sd15_fp16", kind) for kind in ("retouch", "guidance", "sets")),
        Group("appearance loss", _kernel_rows),
        *(costs("sdxl_fp16", kind) for kind in ("retouch", "guidance", "sets")),
        *(costs("sd15_fp16", kind) for kind in ("overhead", "idle")),
        *(costs(f"{kind}_bf16", "methods") for kind in ("sdxl", "sd15")),
        *(costs(f"{kind}_bf16", "methods") for kind in TRANSFORMERS),
        costs("sd15_fp16", "trace"),
        *(costs("sdxl_fp16", kind) for kind in ("overhead", "idle")),
        costs("sd15_fp16", "compiled"),
    ]


def _variant_rows(networks: Networks, name: str, kind: str) -> list[Row]:
    most = KINDS[name.split("_")[0]].largest_set
    network, amounts = networks[name], networks.amounts
    amounts = replace(amounts, sets=tuple(size for size in amounts.sets if size <= most))
    if kind == "idle":
        return [Row(f"{network.name}: all that changes nothing", lambda: _idle(network, amounts))]
    if kind == "trace":
        return _trace_rows(network)

    def row(variant: Variant) -> Row:
        return Row(f"{network.name}: {variant.name}", lambda: measured(network, variant, amounts))

    return [row(variant) for variant in _variants(network, amounts, kind)]


def _variants(network: Network, amounts: Amounts, kind: str) -> list[Variant]:
    if kind == "retouch":
        return [*retouch_variants(network), *kept_variants(network)]
    if kind == "guidance":
        return [*guided_variants(network), *shortened_variants(network), *autograd_variants(network)]
    if kind == "sets":
        return set_variants(network, amounts.sets)
    if kind == "overhead":
        found = [*overhead.blended_variants(network), *overhead.attention_variants(network)]
        return found + overhead.neutral_variants(network)
    if kind == "compiled":
        return _compiled(network, amounts)
    return [retouch_variants(network)[0], guided_variants(network)[0], *set_variants(network, amounts.sets[-1:])[:1]]


def _compiled(network: Network, amounts: Amounts) -> list[Variant]:
    """A retouch and a set beside plain runs of the same compiled model. A guided model must not be compiled."""
    on_cpu = comfy.model_management.get_torch_device().type == "cpu"
    compiled = compiled_network(network, "eager" if on_cpu else "inductor")
    found = [retouch_variants(compiled)[0], *set_variants(compiled, amounts.sets[1:2])[:1]]
    return [replace(v, name=f"{v.name}, compiled", figure=f"compiled_{v.figure}") for v in found]


def _trace_rows(network: Network) -> list[Row]:
    """Rows of the operations of a step that both losses guide."""
    guided = guided_variants(replace(network, steps=1))[0]
    comfy.model_management.load_models_gpu([guided.first])
    guided.sample()  # fills the palette
    found = traced(guided.sample)

    def row(operation: str) -> Row:
        return Row(f"{network.name}: trace of one guided step: {operation}", lambda: (found[operation], {}))

    return [row(operation) for operation in found]


def measured(network: Network, variant: Variant, amounts: Amounts) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Time, peak memory and waits of a variant, beside those of its reference."""
    (timing,) = compare([variant], amounts.seconds, amounts.fewest_rounds)
    peak, waits = observed(variant, variant.sample)
    plain_peak, plain_waits = observed(variant, variant.reference)
    memory = peak / plain_peak
    metrics = {
        "time ratio": timing.ratio,
        "seconds": timing.seconds,
        "memory ratio": [memory],
        "peak GiB": [peak / GIB],
        "waits per step": [waits / network.steps],
        "waits per step of the reference": [plain_waits / network.steps],
    }
    figure = f"{network.prefix}{variant.figure}"
    figures = {
        figure: timing.ratio[0],
        figure.replace("_ratio", "_memory_ratio"): memory,
        figure.replace("_ratio", "_extra_waits"): (waits - plain_waits) / network.steps,
    }
    return metrics, figures


def observed(variant: Variant, run: Callable[[], object]) -> tuple[float, int]:
    """Peak bytes of tensors above the start, and the number of waits."""
    comfy.model_management.load_models_gpu([variant.first])
    with counted_waits() as waits:
        peak = peak_bytes(run)
    return peak, waits.count


def _idle(network: Network, amounts: Amounts) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Milliseconds that idle nodes add, the most of any, measured where the network takes next to no time."""
    added = compare(overhead.idle_variants(small_network(network.steps)), amounts.seconds, amounts.fewest_rounds)
    worst = max(added, key=lambda timing: timing.added[0])
    milliseconds = [1000 * value for value in worst.added]
    return {"added ms": milliseconds}, {f"{network.prefix}strength_zero_added_ms": milliseconds[0]}


def _kernel_rows(networks: Networks) -> list[Row]:
    amounts = networks.amounts

    def row(dtype: str, tokens: int) -> Row:
        name = f"appearance loss, {tokens} x {tokens} tokens of {SIZES[tokens]} channels, {dtype}"
        return Row(name, lambda: _kernel(dtype, tokens, amounts))

    return [row(dtype, tokens) for dtype in DTYPES for tokens in amounts.tokens]


@torch.inference_mode(False)
@torch.enable_grad()
def _kernel(dtype: str, tokens: int, amounts: Amounts) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Time and memory of the loss with its gradient, beside the whole matrix, PyTorch's search and the product."""
    runs = runs_of(*random_tokens(tokens, DTYPES[dtype]))
    took = rounds(runs, amounts.seconds, amounts.fewest_rounds)

    def ratio(first: str, second: str) -> list[float]:
        return median_interval(a / b for a, b in zip(took[first], took[second], strict=True))

    peak = peak_bytes(runs["uremd"])
    memory = peak_bytes(runs["matrix"]) / peak
    metrics: dict[str, Any] = {
        "matrix / kernel": ratio("matrix", "uremd"),
        "seconds": median_interval(took["uremd"]),
        "PyTorch's search / kernel": ratio("torch", "uremd"),
        "kernel / product": ratio("uremd", "matmul"),
        "matrix / kernel, memory": [memory],
        "peak GiB": [peak / GIB],
    }
    figures = {
        f"uremd_speedup_{dtype}_{tokens}": metrics["matrix / kernel"][0],
        f"uremd_matmul_ratio_{dtype}_{tokens}": metrics["kernel / product"][0],
        f"uremd_memory_ratio_{dtype}_{tokens}": memory,
    }
    return metrics, figures
