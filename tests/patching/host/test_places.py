"""Places of keys in tiny diffusion transformers: of the picture's tokens, and of pictures that the host adds."""

import comfy.sample
import pytest
import torch
from likeness.kernels.attention import rotated
from likeness.patching.host.families import family_of
from likeness.patching.host.family import Shift
from likeness.patching.host.reference_places import Taken
from likeness.tests.patching.dit_runs import layers, tapped
from likeness.tests.patching.tiny_dits import conditioning, latent, tiny_dit

HEIGHT, WIDTH = 8, 16
"""Of the latent: 32 tokens of two pixels, to which Z-Image adds no padding."""
CPU = torch.device("cpu")


def moved(dit: str, keys: torch.Tensor, **shift: float) -> torch.Tensor:
    family = family_of(tiny_dit(dit), "Test")
    rotation = family.rotation(Shift(**shift), CPU)
    assert rotation is not None
    return rotated(keys.flatten(1, 2), rotation, family.halves).view_as(keys)


def keys_of_one_content(dit: str, references: int = 0, method: str | None = None) -> list[torch.Tensor]:
    """Keys of the first layer, [1, height, width, channels], of a picture without content and of the host's references.

    All tokens of their latents are alike, so their keys differ by their places alone.
    """
    model, found = tiny_dit(dit), []
    first = layers(model)[0]

    def read(layer, attended, tokens):
        if layer == first:
            after = attended.k[:, tokens.first :].unflatten(1, (-1, *tokens.size))
            found.extend(after.unbind(1)[: 1 + references])

    x = torch.ones_like(latent(dit, 1, HEIGHT, WIDTH)["samples"])
    text, rest = conditioning(seed=10)[0]
    given = {"reference_latents": [model.model.process_latent_out(x)] * references} if references else {}
    prompt = [[text, {**rest, **given, **({"reference_latents_method": method} if method else {})}]]
    schedule = (1, 1.0, "euler", "simple", prompt, prompt)
    comfy.sample.sample(tapped(model, read), x, *schedule, torch.zeros_like(x), disable_pbar=True, seed=0)
    return found


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 * float(expected.abs().max()))


def far(found: torch.Tensor, other: torch.Tensor) -> bool:
    return float((found - other).abs().max()) > 1e-2 * float(other.abs().max())


def test_rotations_move_keys_down_and_right(dit):
    (keys,) = keys_of_one_content(dit)
    if dit == "sd3":
        assert family_of(tiny_dit(dit), "Test").rotation(Shift(right=3), CPU) is None
        return
    for down, right in ((0, 3), (2, 0), (1, 2)):
        there = keys[:, down:, right:]
        here = keys[:, : keys.shape[1] - down, : keys.shape[2] - right].contiguous()
        close(moved(dit, here, down=down, right=right), there)
        assert far(moved(dit, here, down=right, right=down), there)


@pytest.mark.parametrize("dit", ["flux", "flux2", "qwen", "krea2"], indirect=True)
def test_rotations_move_keys_along_the_index(dit):
    picture, *others = keys_of_one_content(dit, 2, "index")
    for i, keys in enumerate(others):
        close(moved(dit, picture, index=i + 1.0), keys)
        assert far(moved(dit, picture, index=2.0 - i), keys)


PLACES = [
    ("flux", None, (1.0, 0, 0), (1.0, 4, 0)),
    ("flux", "offset", (1.0, 0, 0), (1.0, 4, 0)),
    ("flux", "uxo", (0, 4, 8), (0, 8, 16)),
    ("flux", "index", (1.0, 0, 0), (2.0, 0, 0)),
    ("flux2", None, (1.0, 0, 0), (2.0, 0, 0)),
    ("flux2", "offset", (0.1, 0, 0), (0.1, 8, 0)),
    ("qwen", None, (1.0, 0, 0), (2.0, 0, 0)),
    ("qwen", "offset", (1.0, 0, 0), (1.0, 4, 0)),
    ("qwen", "negative_index", (-1.0, 0, 0), (-2.0, 0, 0)),
    ("krea2", "index", (1.0, 0, 0), (2.0, 0, 0)),
]
"""Places of two references of the host as (index, down, right), from its own keys."""


@pytest.mark.parametrize(("dit", "method", "first", "second"), PLACES, indirect=["dit"])
def test_places_of_the_hosts_references_are_known(dit, method, first, second):
    picture, *others = keys_of_one_content(dit, 2, method)
    for (index, down, right), keys in zip((first, second), others, strict=True):
        close(moved(dit, picture, index=index, down=down, right=right), keys)
    family, (height, width) = family_of(tiny_dit(dit), "Test"), picture.shape[1:3]
    given = {"reference_latents": [latent(dit, 1, HEIGHT, WIDTH)["samples"]] * 2, "reference_latents_method": method}
    taken = family.taken([given, {}])
    assert taken.index == max(0, int(first[0]), int(second[0]))
    assert taken.diagonal == (2 * width if second[1:] == (2 * height, 2 * width) else 0)


@pytest.mark.parametrize("dit", ["flux2", "qwen", "krea2"], indirect=True)
def test_references_at_a_noise_level_of_zero_have_the_same_places(dit):
    """Their contents differ from the picture's, not from each other."""
    method = "index_timestep_zero"
    _, first, second = keys_of_one_content(dit, 2, method)
    close(moved(dit, first, index=1), second)
    given = {"reference_latents": [latent(dit)["samples"]] * 2, "reference_latents_method": method}
    assert family_of(tiny_dit(dit), "Test").taken([given]) == Taken(2)


def test_prompts_without_references_take_no_place(dit):
    assert family_of(tiny_dit(dit), "Test").taken([{"reference_latents_method": "index"}]) == Taken()


def test_references_of_a_krea_without_method_are_not_added():
    given = {"reference_latents": [latent("krea2", 1, HEIGHT, WIDTH)["samples"]]}
    assert family_of(tiny_dit("krea2"), "Test").taken([given]) == Taken()
