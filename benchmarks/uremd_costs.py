"""Cost of the appearance loss: time and memory of the kernel, forward and backward, beside cost matrix and bare
product."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from ..kernels.uremd import AUTO, TORCH, TRITON, cosine_cost, uremd
from .memory import peak_bytes
from .timing import seconds_of

SIZES = {4096: 320, 1024: 640, 16384: 320}
"""Token counts, the same for generated picture and palette, and their channels: Stable Diffusion's layers at 512 and,
last, 1024 pixels."""
LARGEST = max(SIZES)
SEED = 1


@torch.inference_mode(False)
@torch.enable_grad()
def uremd_costs(quick: bool) -> dict[str, float | None]:
    """Seconds, bytes and ratios, named by the number of tokens; None for GPU figures on a machine without a GPU.

    memory_ratio: the whole matrix's peak to the kernel's. time_ratio: the kernel's seconds to the whole matrix's.
    matmul_ratio: the kernel's seconds to the bare matrix product's. speedup_gpu: the whole matrix's seconds to the
    Triton kernel's, in fp32 and in fp16.
    """
    on_gpu = torch.cuda.is_available()
    figures: dict[str, float | None] = {}
    for tokens in SIZES:
        figures |= _of_size(tokens, whole=tokens < LARGEST or not quick, seconds=1.0 if quick else 5.0)
    for name, dtype in (("uremd_speedup_gpu", torch.float32), ("uremd_speedup_gpu_fp16", torch.float16)):
        figures[name] = _speedup(dtype) if on_gpu else None
    return figures


def _of_size(tokens: int, whole: bool, seconds: float) -> dict[str, float | None]:
    generated, palette = random_tokens(tokens, torch.float32)
    runs = runs_of(generated, palette)
    if not torch.cuda.is_available():
        del runs["torch"]  # AUTO runs the same
    if not whole:
        del runs["matrix"]
    took = _seconds(runs, seconds)
    ours = took.pop("uremd")
    figures: dict[str, float | None] = {f"uremd_seconds_{tokens}": ours}
    figures |= {f"uremd_{name}_seconds_{tokens}": value for name, value in took.items()}
    figures[f"uremd_matmul_ratio_{tokens}"] = ours / took["matmul"]
    figures[f"uremd_bytes_{tokens}"] = memory = peak_bytes(runs["uremd"])
    if whole:
        figures[f"uremd_time_ratio_{tokens}"] = ours / took["matrix"]
        figures[f"uremd_memory_ratio_{tokens}"] = peak_bytes(runs["matrix"]) / memory
    return figures


def runs_of(generated: torch.Tensor, palette: torch.Tensor) -> dict[str, Callable[[], object]]:
    """Ways to the loss and its gradient by name, and the bare product of the tokens."""
    return {
        "uremd": _kernel(generated, palette, AUTO),
        "torch": _kernel(generated, palette, TORCH),
        "matmul": lambda: generated.detach() @ palette.T,
        "matrix": _matrix(generated, palette),
    }


def _speedup(dtype: torch.dtype) -> float:
    generated, palette = random_tokens(4096, dtype)
    took = _seconds({"matrix": _matrix(generated, palette), "triton": _kernel(generated, palette, TRITON)}, 2.0)
    return took["matrix"] / took["triton"]


def random_tokens(tokens: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens of a generated picture, which takes the gradient, and of a palette: each [tokens, channels]."""
    generator = torch.Generator().manual_seed(SEED)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generated, palette = (torch.randn(tokens, SIZES[tokens], generator=generator).to(device, dtype) for _ in range(2))
    return generated.requires_grad_(), palette


def _kernel(generated: torch.Tensor, palette: torch.Tensor, implementation: str) -> Callable[[], object]:
    return lambda: torch.autograd.grad(uremd(generated, palette, implementation=implementation), generated)


def _matrix(generated: torch.Tensor, palette: torch.Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(cosine_cost(generated, palette).min(1).values.mean(), generated)


def _seconds(runs: dict[str, Callable[[], object]], budget: float) -> dict[str, float]:
    """Median seconds of each run."""
    return {name: statistics.median(values) for name, values in rounds(runs, budget).items()}


def rounds(runs: dict[str, Callable[[], object]], budget: float, fewest: int = 1) -> dict[str, list[float]]:
    """Seconds of each run, timed in rounds over all of them, so that a busy machine slows them alike.

    At least `fewest` rounds are timed, after one warm-up run.
    """
    took: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    start = time.perf_counter()
    done = 0
    while done < fewest or time.perf_counter() - start < budget:
        for name, run in runs.items():
            took[name].append(seconds_of(run))
        done += 1
    return took
