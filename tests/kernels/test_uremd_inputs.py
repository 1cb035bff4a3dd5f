"""UREMD of unusual input: dtypes, masks, empty sets, tokens without direction, errors."""

import pytest
import torch
from likeness.kernels import uremd as module
from likeness.kernels.uremd import (
    AUTO,
    GEN_TO_REF,
    MAX,
    REF_TO_GEN,
    TORCH,
    TRITON,
    cosine_cost,
    nearest,
    uremd,
)
from likeness.tests.kernels.uremd_by_matrix import (
    EACH_DIRECTION,
    assert_equals_the_reference,
    random,
    reference,
    value_and_gradient,
)


@EACH_DIRECTION
def test_masked_equals_gathered(direction):
    generated, palette, mask = random(20, 5), random(9, 5, seed=1), random(20, seed=2) > 0
    masked = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    gathered = value_and_gradient(lambda g: uremd(g[mask], palette, direction), generated)
    torch.testing.assert_close(masked, gathered)
    assert 0 < mask.sum() < 20 and not masked[1][~mask].any()


def test_a_token_outside_the_mask_is_not_found():
    generated, palette = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0]])
    mask = torch.tensor([False, True])
    assert float(uremd(generated, palette, REF_TO_GEN)) == 0
    assert float(uremd(generated, palette, REF_TO_GEN, mask)) == float(uremd(generated, palette, MAX, mask)) == 1


@EACH_DIRECTION
@pytest.mark.parametrize("empty", ["mask", "generated", "palette"])
def test_nothing_to_compare(direction, empty):
    generated = random(0 if empty == "generated" else 4, 3)
    palette = random(0 if empty == "palette" else 5, 3)
    mask = torch.zeros(4, dtype=torch.bool) if empty == "mask" else None
    value, gradient = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    assert float(value) == 0 and torch.equal(gradient, torch.zeros_like(generated))


@EACH_DIRECTION
def test_a_token_without_length(direction):
    generated, palette = random(4, 3), torch.cat([random(3, 3, seed=1), torch.zeros(1, 3)])
    generated[1] = 0
    value, gradient = value_and_gradient(lambda g: uremd(g, palette, direction), generated)
    assert value.isfinite() and gradient.isfinite().all() and not gradient[1].any()
    torch.testing.assert_close(cosine_cost(generated, palette)[1], torch.ones(4))


@EACH_DIRECTION
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_fp32(dtype, direction):
    generated, palette = (300 * random(8, 64)).to(dtype), random(7, 64, seed=1, dtype=dtype)
    assert dtype != torch.float16 or generated.square().sum(1).isinf().all()
    value, gradient = value_and_gradient(lambda g: 2**10 * uremd(g, palette, direction), generated)
    expected, full_gradient = value_and_gradient(
        lambda g: 2**10 * uremd(g, palette.float(), direction), generated.float()
    )
    assert value.dtype == torch.float32 and gradient.dtype == dtype
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, full_gradient.to(dtype), rtol=1e-2, atol=1e-6)


def test_mixed_dtypes_meet_in_the_wider_one():
    generated, palette = random(8, 16), random(7, 16, seed=1, dtype=torch.float16)
    torch.testing.assert_close(uremd(generated, palette), reference(generated, palette.float(), GEN_TO_REF))


def test_autocast_changes_nothing():
    generated, palette = random(40, 64), random(50, 64, seed=1)
    expected = uremd(generated, palette), nearest(generated, palette), cosine_cost(generated, palette)
    with torch.autocast("cpu", torch.bfloat16):
        found = uremd(generated, palette), nearest(generated, palette), cosine_cost(generated, palette)
        assert (generated @ palette.T).dtype == torch.bfloat16
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@EACH_DIRECTION
def test_what_was_recorded_in_inference_mode(direction):
    generated = random(20, 5)
    with torch.inference_mode():
        palette, mask = random(9, 5, seed=1), random(20, seed=2) > 0
    assert palette.is_inference() and mask.is_inference()
    assert_equals_the_reference(generated, palette.clone(), direction, mask.clone())
    found = value_and_gradient(lambda g: uremd(g, palette, direction, mask), generated)
    torch.testing.assert_close(
        found, value_and_gradient(lambda g: uremd(g, palette.clone(), direction, mask.clone()), generated)
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"palette": torch.zeros(2, 4)}, r"\[2, 3\] and \[2, 4\]"),
        ({"palette": torch.zeros(3)}, r"palette \[m, c\]"),
        ({"generated_mask": torch.zeros(3, dtype=torch.bool)}, r"bool \[2\].*\[3\]"),
        ({"generated_mask": torch.zeros(2)}, "float32"),
        ({"direction": "gen2ref"}, "gen_to_ref, ref_to_gen, max"),
        ({"implementation": "cuda"}, "auto, torch, triton"),
        ({"generated": torch.zeros(2, 3, dtype=torch.float64), "implementation": TRITON}, "float64"),
    ],
)
def test_wrong_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        uremd(**{"generated": torch.zeros(2, 3), "palette": torch.zeros(2, 3), **arguments})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU takes Triton")
def test_the_processor_takes_pytorch(monkeypatch):
    monkeypatch.setattr(module, "_triton_works", lambda *_: pytest.fail("Triton was tried on a processor"))
    generated, palette = random(4, 3), random(5, 3, seed=1)
    assert torch.equal(uremd(generated, palette, implementation=AUTO), uremd(generated, palette, implementation=TORCH))
