"""UREMD in Triton against PyTorch: in Triton's interpreter, and on a GPU where there is one."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from likeness.kernels import uremd as module
from likeness.kernels.uremd import AUTO, GEN_TO_REF, MAX, REF_TO_GEN, TORCH, nearest, uremd
from likeness.tests.kernels.uremd_by_matrix import random, value_and_gradient

if importlib.util.find_spec("triton") is None:
    pytest.skip("Triton is not installed", allow_module_level=True)

ONLY_INTERPRETED = ("processors", "inference")
GRADIENT_ERRORS = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 2**-7}
"""The interpreter truncates to bfloat16 where PyTorch rounds: up to a unit in the last of its 8 bits."""
INTERPRET = Path(__file__).with_name("interpret_uremd.py")


def error(found, expected):
    """The relative error of the whole tensor; half precision rounds single elements further apart."""
    found, expected = found.double(), expected.double()
    return float((found - expected).norm() / expected.norm().clamp_min(1e-12))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Triton works on a GPU")
def test_triton_that_does_not_work_is_told_once(caplog):
    module._triton_works.cache_clear()
    assert not module._triton_works(torch.device("cpu"), torch.float32)
    assert not module._triton_works(torch.device("cpu"), torch.float32)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def triton_cases():
    """Arguments of uremd by name, of sizes around a block of 64 tokens by 64 candidates."""

    def case(n, m, c, dtype=torch.float32, direction=GEN_TO_REF, **more):
        return {
            "generated": random(n, c, dtype=dtype),
            "palette": random(m, c, seed=1, dtype=dtype),
            "direction": direction,
            **more,
        }

    zeros = case(6, 9, 20)
    zeros["generated"][2] = zeros["palette"][3] = 0
    odd = case(20, 18, 8)
    odd["generated"], odd["palette"] = odd["generated"].T.contiguous().T, odd["palette"][::2]
    return {
        "one block": case(10, 12, 33),
        "many blocks": case(70, 130, 40),
        "shared blocks": case(66, 200, 40, processors=2),
        "gen_to_ref, masked": case(40, 30, 16, generated_mask=random(40, seed=2) > 0),
        "ref_to_gen": case(30, 70, 16, direction=REF_TO_GEN),
        "ref_to_gen, masked": case(
            70, 20, 16, direction=REF_TO_GEN, generated_mask=random(70, seed=2) > 1, processors=2
        ),
        "max": case(12, 14, 320, direction=MAX),
        "fp16": case(40, 70, 80, torch.float16),
        "bf16": case(40, 70, 80, torch.bfloat16),
        "empty mask": case(8, 9, 16, generated_mask=torch.zeros(8, dtype=torch.bool)),
        "no length": zeros,
        "not contiguous": odd,
        "inference": case(7, 9, 16, inference=True),
    }


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Results and gradients of uremd in Triton's interpreter, by name."""
    cases, files = triton_cases(), [tmp_path_factory.mktemp("uremd") / name for name in ("cases.pt", "results.pt")]
    torch.save(list(cases.values()), files[0])
    done = subprocess.run([sys.executable, INTERPRET, *files], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, torch.load(files[1]), strict=True))


@pytest.mark.parametrize("name", triton_cases())
def test_triton_equals_pytorch(name, interpreted):
    case, found = triton_cases()[name], interpreted[name]
    case = {key: value for key, value in case.items() if key not in ONLY_INTERPRETED}
    generated, dtype = case.pop("generated"), case["palette"].dtype
    value, gradient = value_and_gradient(lambda g: uremd(g, **case, implementation=TORCH), generated)
    exact = dtype == torch.float32
    torch.testing.assert_close(found["value"], value, rtol=1e-5 if exact else 1e-3, atol=1e-6)
    assert error(found["gradient"], gradient) < GRADIENT_ERRORS[dtype]
    assert found["palette_gradient"] is None
    assert torch.equal(found["index"], nearest(generated, case["palette"]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("name", triton_cases())
def test_a_gpu_takes_triton(name):
    case = {
        k: v.cuda() if isinstance(v, torch.Tensor) else v
        for k, v in triton_cases()[name].items()
        if k not in ONLY_INTERPRETED
    }
    generated, exact = case.pop("generated"), case["palette"].dtype == torch.float32
    assert module._takes_triton(AUTO, generated)
    found = value_and_gradient(lambda g: uremd(g, **case), generated)
    expected = value_and_gradient(lambda g: uremd(g, **case, implementation=TORCH), generated)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5 if exact else 1e-3, atol=1e-6)
    assert error(found[1], expected[1]) < GRADIENT_ERRORS[generated.dtype]
