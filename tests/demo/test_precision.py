"""Tests that networks compute in bfloat16 only where the processor has instructions for it."""

import pytest
import torch
from likeness.demo import precision


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [("DEFAULT", torch.float32), ("AVX2", torch.float32), ("AVX512", torch.bfloat16), ("SVE256", torch.bfloat16)],
)
def test_a_cpu_without_instructions_for_bfloat16_computes_in_float32(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert precision.fast_dtype() is dtype
    with precision.autocast(torch.device("cpu")):
        assert torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype is dtype


def test_a_gpu_computes_in_bfloat16():
    assert precision.fast_dtype("cuda") is torch.bfloat16
