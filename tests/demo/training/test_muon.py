"""Muon: its orthogonal update, what AdamW steps, and that a stopped run goes on."""

from __future__ import annotations

import pytest
import torch
from likeness.demo.training.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8)])
def test_singular_values_move_near_one_and_keep_their_vectors(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    assert s.max() > 1.3 * s.min()
    moved = u.T @ orthogonal(matrix) @ v.T
    diagonal = torch.diagonal(moved)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3
    assert (moved - torch.diag(diagonal)).abs().max() < 6e-2  # of bfloat16


def test_vectors_are_stepped_as_adamw_steps_them():
    start, gradients = torch.randn(5), [torch.randn(5) for _ in range(4)]
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    optimizers = (
        Muon([ours], 1e-2, weight_decay=0.1),
        torch.optim.AdamW([theirs], 1e-2, betas=(0.9, 0.99), weight_decay=0.1),
    )
    for gradient in gradients:
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = gradient.clone()
            optimizer.step()
    torch.testing.assert_close(ours, theirs)


def test_a_convolution_is_one_matrix_and_its_step_has_the_size_of_adams():
    weight = torch.nn.Parameter(torch.zeros(8, 4, 3, 3))
    weight.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1)) * 1e-4
    Muon([weight], 1e-2, weight_decay=0.0).step()
    singular = torch.linalg.svdvals(weight.detach().flatten(1)) / (1e-2 * 0.2 * 36**0.5)
    assert singular.min() > 0.6 and singular.max() < 1.3
    assert weight.detach().square().mean().sqrt() == pytest.approx(0.2e-2, rel=0.2)
