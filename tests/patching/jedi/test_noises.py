"""Two devices, or two attention backends, give the references of a set the same noise."""

from types import SimpleNamespace

import pytest
import torch
from likeness.patching.jedi.noises import level_name, noise_names
from likeness.tests.patching.jedi.joint_runs import reference, run
from likeness.tests.patching.tiny_models import latent, tiny_model

ULP = 2**-23


def names(seeds, pictures):
    items = [SimpleNamespace(seed=seed) for seed in seeds]
    return noise_names(items, [SimpleNamespace(samples=picture) for picture in pictures])  # pyright: ignore


def pictures(count):
    return [latent(1, 8, 8, seed)["samples"] for seed in range(count)]


def test_names_follow_their_references_in_any_order():
    seeds, shown = [3, 5, 3, 3], pictures(4)
    found = dict(zip(map(id, shown), names(seeds, shown), strict=True))
    order = [2, 0, 3, 1]
    moved = names([seeds[i] for i in order], [shown[i] for i in order])
    assert moved == [found[id(shown[i])] for i in order]
    assert len(set(moved)) == 4 and found[id(shown[1])] == "5 0"


def test_a_repeated_picture_has_a_noise_of_its_own():
    (shown,) = pictures(1)
    assert names([3, 3], [shown, shown.clone()]) == ["3 0", "3 1"]


def test_last_digits_do_not_count():
    shown = pictures(3)
    assert names([1, 1, 1], shown) == names([1, 1, 1], [picture * (1 + 4 * ULP) + 1e-6 for picture in shown])
    assert level_name(14.614641) == level_name(14.614641 * (1 + 2 * ULP)) != level_name(14.63)


@pytest.mark.parametrize("noise", ["fresh", "fixed"])
def test_rounded_references_give_the_same_pictures(noise):
    """An encoder that rounds otherwise gives almost the same latents."""
    model = tiny_model("sd1")

    def drawn(factor=1.0, seed=20):
        known = [reference(model, seed), reference(model, 21)]
        for item in known:
            item.latent["samples"] = item.latent["samples"] * factor
        return run(model, references=known, reference_noise=noise)

    found, expected, other = drawn(1 + 4 * ULP), drawn(), drawn(seed=7)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (other - expected).abs().max() > 0.01
