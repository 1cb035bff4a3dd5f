"""The keys that one query looks at: rows of the plain softmax, and the weights of a method's own outputs."""

import pytest
import torch
from likeness.kernels.attention import attention_probabilities
from likeness.kernels.correspondences import looked_at, token_at
from likeness.kernels.jedi import coupled_attention
from likeness.kernels.layout_and_retouch import reference_attention


@pytest.mark.parametrize(
    ("x", "y", "token"), [(0.0, 0.0, 0), (0.49, 0.0, 1), (0.5, 0.0, 2), (1.0, 0.0, 3), (0.1, 0.6, 4), (1.0, 1.0, 7)]
)
def test_the_token_of_a_point(x, y, token):
    assert token_at(x, y, (2, 4)) == token


def test_a_row_of_the_plain_softmax():
    q, k = torch.randn(2, 5, 8), torch.randn(2, 7, 8)
    mask = torch.randn(2, 1, 5, 7)
    numbers = torch.stack([torch.randperm(9)[:7] for _ in range(2)])[..., None]
    row = looked_at(q[:, 3:4], k, numbers, 2, total=9, mask=mask[:, :, 3:4])
    plain = attention_probabilities(q, k, 2, mask).mean(1)[:, 3]
    assert row.shape == (2, 1, 9)
    for i in range(2):
        torch.testing.assert_close(row[i, 0, numbers[i, :, 0]], plain[i])
        assert float(row[i].sum()) == pytest.approx(1)


def attention(q, k, v, mask=None):
    logits = q @ k.mT * q.shape[-1] ** -0.5
    return torch.softmax(logits if mask is None else logits + mask, -1) @ v


def weighing(total):
    def weigh(q, k, numbers, mask=None):
        return looked_at(q, k, numbers, 1, total=total, mask=None if mask is None else mask.unsqueeze(1))

    return weigh


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("visible", [None, [None, torch.tensor([0, 3]), torch.tensor([2])]])
def test_weights_of_a_set_make_its_outputs(strength, visible):
    q, k, v = torch.randn(3, 3, 4, 6).unbind()
    options = {"strength": strength, "visible": visible}
    made = coupled_attention(q, k, v, 3, attention, **options)
    numbers = torch.arange(12).view(3, 4, 1)
    rows = coupled_attention(q[:, 2:3], k, numbers, 3, weighing(12), **options)
    torch.testing.assert_close(rows[:, 0] @ v.flatten(0, 1), made[:, 2])


@pytest.mark.parametrize("append", [False, True])
@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_weights_of_a_retouch_make_its_outputs(append, strength):
    q, (k, v) = torch.randn(1, 4, 6), torch.randn(2, 1, 9, 6).unbind()
    options = {"counts": (3, 2), "weights": (2.0, 1.0), "append": append, "strength": strength}
    made = reference_attention(q, k, v, attention=attention, **options)
    row = reference_attention(q[:, 1:2], k, torch.arange(9).view(1, 9, 1), attention=weighing(9), **options)
    torch.testing.assert_close(row[0] @ v[0], made[:, 1])
