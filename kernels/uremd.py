"""The appearance loss of Pick-and-Draw (arXiv 2401.16762): the distance of generated tokens to the reference's.

The paper's cost matrix is never built. A tiled search without a graph finds the matching pairs, and their costs alone
are computed with a graph. This is exact, because a minimum passes its gradient to one pair only. The memory needed is
that of the tokens. Equation numbers are ours, as `pick_and_draw` explains.
"""

# Torch's own annotations are incomplete.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import math
from typing import cast

import torch
from torch.amp.autocast_mode import is_autocast_available

GEN_TO_REF = "gen_to_ref"
REF_TO_GEN = "ref_to_gen"
MAX = "max"
DIRECTIONS = (GEN_TO_REF, REF_TO_GEN, MAX)
AUTO, TORCH, TRITON = "auto", "torch", "triton"
IMPLEMENTATIONS = (AUTO, TORCH, TRITON)
EPSILON = 1e-8
"""Largest norm of a token that has no direction: its cost is 1, without a gradient."""

_BUDGET = {"cpu": 2**20}
_BUDGET_OF_ACCELERATORS = 2**22
_TRITON_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_log = logging.getLogger(__name__)


def cosine_cost(generated: torch.Tensor, palette: torch.Tensor) -> torch.Tensor:
    """C_ij = 1 - <g_i, p_j> / (|g_i| |p_j|) (Pick-and-Draw, arXiv 2401.16762, eq. 6), the whole matrix.

    generated: [n, c], palette: [m, c]. Returns [n, m] in 0..2, in fp32, or in float64 for float64 tokens.
    """
    generated, palette = _full(generated), _full(palette)
    with _without_autocast(generated.device):
        return 1 - (generated * _inverse_norms(generated)) @ (palette * _inverse_norms(palette)).T


def uremd(
    generated: torch.Tensor,
    palette: torch.Tensor,
    direction: str = GEN_TO_REF,
    generated_mask: torch.Tensor | None = None,
    implementation: str = AUTO,
    budget: int | None = None,
    palette_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """UREMD = mean_i min_j C_ij (Pick-and-Draw, arXiv 2401.16762, eq. 9) with the cosine cost of eq. 6.

    generated: [n, c], palette: [m, c], of any floating dtypes. direction: GEN_TO_REF finds a palette entry for each
    generated token. REF_TO_GEN finds a generated token for each palette entry. MAX is the larger of both, the two-sided
    REMD of eq. 8. generated_mask: bool [n], the tokens that count; a mask spares the caller a gather, which would wait
    for the device. implementation: AUTO takes Triton for fp32, fp16 and bf16 on a GPU where Triton works, else PyTorch.
    budget: the most scores that PyTorch's search holds at once; it does not change the result. palette_weight: [m]
    above 0; the smallest C_ij / w_j is found and costs C_ij. PyTorch then does the search.

    Returns a scalar in 0..2, in fp32, or in float64 for float64 tokens. It is 0, with a gradient of zeros, where no
    token counts or the palette is empty. The gradient goes to `generated` alone, in its dtype. fp16 cannot hold the
    gradient of a mean over thousands of tokens unless the loss is scaled up. Raises ValueError for a wrong shape,
    direction or implementation.
    """
    _check(generated, palette, direction, generated_mask, implementation)
    if not len(generated) or not len(palette):
        return _full(generated[:0]).sum()
    generated_mask = None if generated_mask is None else _constant(generated_mask)
    common = torch.promote_types(generated.dtype, palette.dtype)
    generated, palette = generated.to(common), _constant(palette).to(common)
    if _takes_triton(implementation, generated):
        from . import uremd_triton as triton_form

        matched, search = triton_form.matched_costs, triton_form.nearest
    else:
        matched, search = _matched_costs, functools.partial(nearest, budget=budget)

    def of_generated() -> torch.Tensor:
        if palette_weight is None:
            index = search(generated, palette)
        else:
            index = nearest(generated, palette, None, budget, _constant(palette_weight))
        costs = matched(generated, palette, index)
        if generated_mask is None:
            return costs.mean()
        return torch.where(generated_mask, costs, 0).sum() / generated_mask.sum().clamp_min(1)

    def of_palette() -> torch.Tensor:
        # Many palette entries may find one token; half precision could not add up their gradients.
        mean = _pair_costs(_full(generated)[search(palette, generated, generated_mask)], palette).mean()
        return mean if generated_mask is None else torch.where(generated_mask.any(), mean, 0)

    if direction == GEN_TO_REF:
        return of_generated()
    return of_palette() if direction == REF_TO_GEN else torch.maximum(of_generated(), of_palette())


@torch.no_grad()
def nearest(
    tokens: torch.Tensor,
    candidates: torch.Tensor,
    candidate_mask: torch.Tensor | None = None,
    budget: int | None = None,
    candidate_weight: torch.Tensor | None = None,
) -> torch.Tensor:
    """argmin_j C_ij, each token's nearest candidate by the cosine cost (Pick-and-Draw, arXiv 2401.16762, eq. 6).

    tokens: [n, c], candidates: [m, c] with m > 0, candidate_mask: bool [m], the candidates that may be found;
    candidate_weight: [m] above 0, minimizes C_ij / w_j instead. Returns [n] int64, without a graph; any index where no
    candidate may be found. At most `budget` scores exist at once, so the memory needed is that of the tokens.
    """
    budget = budget or _BUDGET.get(tokens.device.type, _BUDGET_OF_ACCELERATORS)
    n, m = len(tokens), len(candidates)
    rows = max(math.isqrt(budget), budget // m)
    columns = max(1, min(m, budget // rows))
    candidates = _full(candidates)
    directions = candidates * _inverse_norms(candidates)
    bias = None
    if candidate_mask is not None:
        bias = directions.new_zeros(m).masked_fill_(~candidate_mask, -math.inf)
    if candidate_weight is not None:
        # The least (1 - cos) / w is the greatest cos / w - 1 / w.
        inverse = candidate_weight.to(directions).reciprocal()
        directions = directions * inverse[:, None]
        bias = -inverse if bias is None else bias - inverse
    result = torch.empty(n, dtype=torch.int64, device=tokens.device)
    with _without_autocast(tokens.device):
        for top in range(0, n, rows):
            part = tokens[top : top + rows].to(directions.dtype)
            if candidate_weight is not None:
                # Without weights a token's own length does not change its nearest candidate.
                part = part * _inverse_norms(part)
            best, index = _best(part, directions, bias, 0, columns)
            for left in range(columns, m, columns):
                score, at = _best(part, directions, bias, left, columns)
                better = score > best
                best, index = torch.where(better, score, best), torch.where(better, at, index)
            result[top : top + rows] = index
    return result


def _best(
    tokens: torch.Tensor, directions: torch.Tensor, bias: torch.Tensor | None, left: int, columns: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """The best score of each token among `columns` directions from `left` on, [n], and its index."""
    part = slice(left, left + columns)
    scores = torch.nn.functional.linear(tokens, directions[part], None if bias is None else bias[part])
    best, index = scores.max(1)
    return best, index + left


def _matched_costs(generated: torch.Tensor, palette: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    return _pair_costs(generated, palette[index])


def _pair_costs(generated: torch.Tensor, matched: torch.Tensor) -> torch.Tensor:
    """C_ii of `generated` and `matched` (arXiv 2401.16762, eq. 6), [n], with a graph."""
    generated, matched = _full(generated), _full(matched)
    lengths = (_inverse_norms(generated) * _inverse_norms(matched)).squeeze(1)
    return 1 - (generated * matched).sum(1) * lengths


def _constant(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without its graph, as one that autograd can save: it refuses tensors made in inference mode."""
    return tensor.clone() if tensor.is_inference() and not torch.is_inference_mode_enabled() else tensor.detach()


def _inverse_norms(tokens: torch.Tensor) -> torch.Tensor:
    """1 / |t| of each token, [n, 1], and 0 for a token without direction."""
    norms = cast(torch.Tensor, torch.linalg.vector_norm(tokens, dim=-1, keepdim=True))
    # Clamped because the branch not taken needs a finite gradient too: 0 times infinity is no number.
    return torch.where(norms > EPSILON, norms.clamp_min(EPSILON).reciprocal(), 0)


def _full(tokens: torch.Tensor) -> torch.Tensor:
    """The tokens in fp32, or in float64 where they are."""
    return tokens.to(torch.promote_types(tokens.dtype, torch.float32))


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    available = is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else contextlib.nullcontext()


def _takes_triton(implementation: str, generated: torch.Tensor) -> bool:
    if implementation == AUTO:
        return (
            generated.is_cuda and generated.dtype in _TRITON_DTYPES and _triton_works(generated.device, generated.dtype)
        )
    if implementation == TRITON and generated.dtype not in _TRITON_DTYPES:
        raise ValueError(
            f"uremd: expected fp32, fp16 or bf16 tokens for implementation {TRITON!r}, got {generated.dtype}; use "
            f"{TORCH!r}."
        )
    return implementation == TRITON


@functools.cache
def _triton_works(device: torch.device, dtype: torch.dtype) -> bool:
    """Tries Triton once: the compiler that it calls may be missing, or the GPU unknown to it."""
    if importlib.util.find_spec("triton") is None:
        return False
    try:
        from . import uremd_triton

        with torch.inference_mode(False), torch.enable_grad():
            tokens = torch.ones(2, 16, device=device, dtype=dtype, requires_grad=True)
            uremd_triton.matched_costs(tokens, tokens.detach(), uremd_triton.nearest(tokens, tokens)).sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - after any failure PyTorch gives the same result
        _log.warning("Triton does not work on %s with %s, so PyTorch is used: %s", device, dtype, error)
        return False
    return True


def _check(
    generated: torch.Tensor, palette: torch.Tensor, direction: str, mask: torch.Tensor | None, implementation: str
) -> None:
    if generated.ndim != 2 or palette.ndim != 2 or generated.shape[1] != palette.shape[1]:
        shapes = f"{list(generated.shape)} and {list(palette.shape)}"
        raise ValueError(
            f"uremd: expected generated [n, c] and palette [m, c], got {shapes}; pass one picture's tokens, of one "
            "layer."
        )
    if mask is not None and (mask.dtype != torch.bool or mask.shape != generated.shape[:1]):
        got = f"{mask.dtype} {list(mask.shape)}"
        raise ValueError(
            f"uremd: expected generated_mask as bool [{len(generated)}], one value per generated token, got {got}."
        )
    if direction not in DIRECTIONS:
        raise ValueError(f"uremd: expected one of {', '.join(DIRECTIONS)} as direction, got {direction!r}.")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(
            f"uremd: expected one of {', '.join(IMPLEMENTATIONS)} as implementation, got {implementation!r}."
        )
