"""The two halves of Pick-and-Draw's appearance loss (arXiv 2401.16762, eq. 9) in Triton: search and matched costs.

Imported only where Triton is installed. `uremd.py` holds the loss and the same two halves in PyTorch. Tokens are fp32,
fp16 or bf16, on a GPU, or on the CPU in Triton's interpreter. Sums are taken in fp32.
"""

# Triton's functions and the arguments of its kernels have no types.
# pyright: reportMissingTypeStubs=false, reportMissingParameterType=false
# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch.autograd.function import once_differentiable

_EPSILON = tl.constexpr(1e-8)  # as EPSILON in uremd.py; a kernel can read a global only in this form
_ROWS, _COLUMNS = 64, 64
_CHANNELS = {torch.float32: 32, torch.float16: 64, torch.bfloat16: 64}
_PROGRAMS_PER_PROCESSOR = 4
_PROCESSORS_OF_INTERPRETER = 1


@triton.jit(do_not_specialize=["n", "m", "span"])
def _nearest_kernel(
    tokens,
    candidates,
    lengths,
    mask,
    scores,
    indices,
    n,
    m,
    span,
    c: tl.constexpr,
    masked: tl.constexpr,
    widen: tl.constexpr,
    rows: tl.constexpr,
    columns: tl.constexpr,
    channels: tl.constexpr,
):
    """Program (i, s) finds the best of candidates s * span to (s + 1) * span for the i-th block of tokens."""
    row = tl.program_id(0) * rows + tl.arange(0, rows)
    split = tl.program_id(1)
    best = tl.full([rows], float("-inf"), tl.float32)
    index = tl.zeros([rows], tl.int32) + split * span
    left = split * span
    end = tl.minimum(left + span, m)
    while left < end:  # Triton 3.6's interpreter has no range up to a number known at run time only
        column = left + tl.arange(0, columns)
        score = tl.zeros([rows, columns], tl.float32)
        for first in range(0, c, channels):
            channel = first + tl.arange(0, channels)
            a = tl.load(tokens + row[:, None] * c + channel[None, :], (row[:, None] < n) & (channel[None, :] < c), 0.0)
            b = tl.load(
                candidates + column[None, :] * c + channel[:, None], (column[None, :] < m) & (channel[:, None] < c), 0.0
            )
            if widen:
                a, b = a.to(tl.float32), b.to(tl.float32)
            score = tl.dot(a, b, score, input_precision="ieee")
        allowed = column < m
        score *= tl.load(lengths + column, allowed, 0.0)[None, :]
        if masked:
            allowed = allowed & (tl.load(mask + column, allowed, 0) != 0)
        score = tl.where(allowed[None, :], score, float("-inf"))
        here = tl.max(score, 1)
        at = left + tl.argmax(score, 1)
        index = tl.where(here > best, at, index)
        best = tl.maximum(here, best)
        left += columns
    tl.store(scores + split * n + row, best, row < n)
    tl.store(indices + split * n + row, index, row < n)


@triton.jit
def _pair(generated, palette, index, c, channels: tl.constexpr):
    """One token, its palette entry, their inverse lengths and their cosine."""
    row = tl.program_id(0)
    channel = tl.arange(0, channels)
    g = tl.load(generated + row * c + channel, channel < c, 0.0).to(tl.float32)
    p = tl.load(palette + tl.load(index + row) * c + channel, channel < c, 0.0).to(tl.float32)
    g_norm, p_norm = tl.sqrt(tl.sum(g * g, 0)), tl.sqrt(tl.sum(p * p, 0))
    g_inverse = tl.where(g_norm > _EPSILON, 1.0 / tl.maximum(g_norm, _EPSILON), 0.0)
    p_inverse = tl.where(p_norm > _EPSILON, 1.0 / tl.maximum(p_norm, _EPSILON), 0.0)
    return g, p, g_inverse, p_inverse, tl.sum(g * p, 0) * (g_inverse * p_inverse)


@triton.jit
def _costs_kernel(generated, palette, index, costs, c, channels: tl.constexpr):
    _, _, _, _, cosine = _pair(generated, palette, index, c, channels)  # pyright: ignore[reportGeneralTypeIssues] - a kernel's call
    tl.store(costs + tl.program_id(0), 1.0 - cosine)


@triton.jit
def _gradient_kernel(generated, palette, index, gradients, result, c, channels: tl.constexpr):
    """d(1 - cos(g, p)) / dg = (cos(g, p) g / |g| - p / |p|) / |g|."""
    row = tl.program_id(0)
    channel = tl.arange(0, channels)
    g, p, g_inverse, p_inverse, cosine = _pair(generated, palette, index, c, channels)  # pyright: ignore[reportGeneralTypeIssues]
    gradient = tl.load(gradients + row) * g_inverse * (cosine * g * g_inverse - p * p_inverse)
    tl.store(result + row * c + channel, gradient.to(result.dtype.element_ty), channel < c)


_INTERPRETED = not isinstance(_nearest_kernel, triton.JITFunction)  # pyright: ignore[reportUnnecessaryIsInstance]
"""True in Triton's interpreter, which gets fp32 for bf16: version 3.6 multiplies the bit patterns of bf16."""


@torch.no_grad()
def nearest(tokens: torch.Tensor, candidates: torch.Tensor, candidate_mask: torch.Tensor | None = None) -> torch.Tensor:
    """argmin_j C_ij by the cosine cost (Pick-and-Draw, arXiv 2401.16762, eq. 6): a matrix product, a running maximum.

    tokens: [n, c], candidates: [m, c] of the same dtype, m > 0, candidate_mask: bool [m]. Returns [n] int64 as
    `uremd.nearest` does.
    """
    tokens, candidates = tokens.contiguous(), candidates.contiguous()
    (n, c), m = tokens.shape, len(candidates)
    norms = torch.linalg.vector_norm(candidates, dim=1, dtype=torch.float32)
    lengths = torch.where(norms > _EPSILON.value, norms.reciprocal(), 0)
    rows, blocks = _blocks(n, _ROWS), _blocks(m, _COLUMNS)
    # Few blocks of tokens do not fill a GPU, so several programs share the candidates of one block.
    splits = max(1, min(blocks, _PROGRAMS_PER_PROCESSOR * _processors(tokens.device) // rows))
    span = _blocks(blocks, splits) * _COLUMNS
    splits = _blocks(m, span)
    scores = tokens.new_empty(splits, n, dtype=torch.float32)
    indices = tokens.new_empty(splits, n, dtype=torch.int32)
    mask = lengths if candidate_mask is None else candidate_mask.to(torch.int8)
    constants: dict[str, Any] = {
        "c": c,
        "masked": candidate_mask is not None,
        "widen": _INTERPRETED and tokens.dtype == torch.bfloat16,
        "rows": _ROWS,
        "columns": _COLUMNS,
        "channels": _CHANNELS[tokens.dtype],
    }
    with torch.cuda.device_of(tokens):
        _nearest_kernel[(rows, splits)](
            tokens=tokens,
            candidates=candidates,
            lengths=lengths,
            mask=mask,
            scores=scores,
            indices=indices,
            n=n,
            m=m,
            span=span,
            **constants,
        )
    return indices.gather(0, scores.argmax(0, keepdim=True))[0].long()


def matched_costs(generated: torch.Tensor, palette: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """1 - cos(g_i, p_index_i), the terms of the mean (Pick-and-Draw, arXiv 2401.16762, eq. 9).

    generated: [n, c], palette: [m, c] of the same dtype, index: int64 [n]. Returns [n] in fp32, with a gradient to
    `generated` alone.
    """
    return _MatchedCosts.apply(generated.contiguous(), palette.contiguous(), index.contiguous())  # pyright: ignore[reportReturnType]


class _MatchedCosts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, generated: torch.Tensor, palette: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(generated, palette, index)
        (n, c), costs = generated.shape, generated.new_empty(len(generated), dtype=torch.float32)
        with torch.cuda.device_of(generated):
            _costs_kernel[(n,)](generated, palette, index, costs, c, channels=triton.next_power_of_2(c))
        return costs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: torch.Tensor) -> tuple[torch.Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        generated, palette, index = ctx.saved_tensors
        (n, c), result = generated.shape, torch.empty_like(generated)
        with torch.cuda.device_of(generated):
            _gradient_kernel[(n,)](
                generated=generated,
                palette=palette,
                index=index,
                gradients=gradients.contiguous(),
                result=result,
                c=c,
                channels=triton.next_power_of_2(c),
            )
        return result, None, None


def _blocks(size: int, block: int) -> int:
    return -(-size // block)


def _processors(device: torch.device) -> int:
    return (
        torch.cuda.get_device_properties(device).multi_processor_count
        if device.type == "cuda"
        else _PROCESSORS_OF_INTERPRETER
    )
