"""Steps in the variance-exploding convention against the papers' variance-preserving formulas and exact solutions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.kernels.diffusion import ddim_step, noised

SIGMAS = st.floats(0.03, 20.0)


def preserving(latent, sigma):
    return latent / math.sqrt(1 + sigma**2)


@given(SIGMAS)
def test_noised_is_ddpm_equation_4(sigma):
    clean, noise = torch.randn(2, 4, 3, 5, dtype=torch.float64), torch.randn(2, 4, 3, 5, dtype=torch.float64)
    abar = 1 / (1 + sigma**2)
    expected = math.sqrt(abar) * clean + math.sqrt(1 - abar) * noise
    torch.testing.assert_close(preserving(noised(clean, sigma, noise), sigma), expected)


def test_no_noise_leaves_the_latent():
    clean = torch.randn(1, 4, 2, 2)
    assert torch.equal(noised(clean, 0.0, torch.randn(1, 4, 2, 2)), clean)


@given(SIGMAS, SIGMAS)
def test_step_is_ddim_equation_12_in_both_directions(sigma, next_sigma):
    latent, denoised = torch.randn(1, 4, 3, 3, dtype=torch.float64), torch.randn(1, 4, 3, 3, dtype=torch.float64)
    abar, next_abar = 1 / (1 + sigma**2), 1 / (1 + next_sigma**2)
    z = preserving(latent, sigma)
    epsilon = (z - math.sqrt(abar) * denoised) / math.sqrt(1 - abar)
    expected = math.sqrt(next_abar) * denoised + math.sqrt(1 - next_abar) * epsilon
    torch.testing.assert_close(preserving(ddim_step(latent, denoised, sigma, next_sigma), next_sigma), expected)


def test_last_step_gives_the_estimate():
    latent, denoised = torch.randn(1, 4, 2, 2), torch.randn(1, 4, 2, 2)
    torch.testing.assert_close(ddim_step(latent, denoised, 3.0, 0.0), denoised)


def test_step_without_change_of_noise_changes_nothing():
    latent = torch.randn(1, 4, 2, 2)
    assert torch.equal(ddim_step(latent, torch.randn(1, 4, 2, 2), 3.0, 3.0), latent)


def test_hand_computed_step():
    assert ddim_step(torch.tensor(5.0), torch.tensor(1.0), 4.0, 6.0).item() == pytest.approx(7.0)  # eps = 1
