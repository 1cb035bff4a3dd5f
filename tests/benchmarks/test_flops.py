"""Operations of a run."""

import torch
from likeness.benchmarks import flops


def test_attention_counts_as_work_on_every_device():
    q, k = torch.randn(2, 8, 96, 16), torch.randn(2, 8, 32, 16)
    work = flops.counted(lambda: torch.nn.functional.scaled_dot_product_attention(q, k, k))
    assert work == 4 * 2 * 8 * 96 * 32 * 16


def test_peak_and_operations_of_one_run():
    a, b = torch.randn(64, 32), torch.randn(32, 16)
    with torch.inference_mode():
        assert flops.counted_with_peak(lambda: torch.nn.functional.linear(a, b.T)) == (2 * 64 * 32 * 16, 4 * 64 * 16)
