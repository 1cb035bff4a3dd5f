"""Muon: momentum with an orthogonalized update for the matrices of hidden layers, and AdamW for the other parameters.

Source: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024). The step length is that
of arXiv 2502.16982, section 2.2, so that both kinds of parameters share one learning rate.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ..precision import fast_dtype

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_BETAS = (0.9, 0.99)


def orthogonal(matrix: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """Moves the singular values of a matrix [rows, columns] near 1 by a quintic Newton-Schulz iteration."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = (x / (x.norm() + 1e-7)).to(fast_dtype(x.device.type))
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x).to(matrix.dtype)


class Muon(torch.optim.Optimizer):
    """Muon on weights of two or more dimensions, AdamW on the others; a convolution is [out, in * height * width].

    A group with `orthogonal` False, such as embeddings of words, is left to AdamW.
    """

    def __init__(
        self,
        parameters: Iterable[torch.nn.Parameter] | Iterable[dict],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 1e-3,
    ):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "orthogonal": True})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                one = self._muon if group["orthogonal"] and parameter.ndim >= 2 else self._adam
                parameter.sub_(one(parameter, group), alpha=group["lr"])

    def _muon(self, parameter: torch.Tensor, group: dict) -> torch.Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - group["momentum"])
        matrix = gradient.lerp(state["momentum"], group["momentum"]).flatten(1)
        return 0.2 * max(matrix.shape) ** 0.5 * orthogonal(matrix).view_as(parameter)

    def _adam(self, parameter: torch.Tensor, group: dict) -> torch.Tensor:
        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        if not state:
            state |= {
                "step": torch.zeros(()),
                "first": torch.zeros_like(parameter),
                "second": torch.zeros_like(parameter),
            }
        state["step"] += 1
        state["first"].lerp_(gradient, 1 - _BETAS[0])
        state["second"].lerp_(gradient.square(), 1 - _BETAS[1])
        first, second = (
            state[name] / (1 - beta ** state["step"]) for name, beta in zip(("first", "second"), _BETAS, strict=True)
        )
        return first / (second.sqrt() + 1e-8)
