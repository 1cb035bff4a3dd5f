"""The attention of a transformer's layer under the host's own mask, in parts."""

import pytest
import torch
from likeness.patching.host.joint_attention import JointAttention
from likeness.patching.host.tokens import Tokens
from likeness.patching.jedi.coupling import Chunks

HEADS, WIDTH = 2, 8
TOKENS = Tokens((12, 12), after=6)


def run(q, k, v, mask):
    """Attention over [rows, tokens, width], as the host's."""
    q, k, v = (t.unflatten(2, (HEADS, -1)).transpose(1, 2) for t in (q, k, v))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2)


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, TOKENS.total, WIDTH, generator=generator).unbind()


@pytest.fixture
def masked():
    """Each query sees other tokens."""
    mask = torch.randn(2, 1, TOKENS.total, TOKENS.total, generator=torch.Generator().manual_seed(1))
    return JointAttention(run, TOKENS, HEADS, mask=mask)


@pytest.mark.parametrize("size", [64, 100])
@pytest.mark.parametrize("of_picture", [True, False])
def test_chunks_of_queries_keep_their_own_masks(inputs, masked, size, of_picture):
    q, k, v = inputs
    if of_picture:
        q, masked = q[:, : TOKENS.picture], masked.of_picture
    whole = masked(q, k, v)
    torch.testing.assert_close(Chunks(size).attend(masked, q, k, v), whole)
    assert not torch.allclose(JointAttention(run, TOKENS, HEADS)(q, k, v), whole)


def test_chunks_of_the_other_queries(inputs, masked):
    q, k, v = inputs
    others = masked.of_others
    torch.testing.assert_close(Chunks(4).attend(others, q[:, TOKENS.picture :], k, v), masked(q, k, v)[:, -6:])


def test_queries_that_the_mask_is_not_for(inputs, masked):
    q, k, v = inputs
    with pytest.raises(ValueError, match=r"150 queries .* got 75; remove the node that divides or merges attention"):
        masked(q[:, ::2], k, v)


def test_weights_under_a_mask_that_has_no_heads(inputs):
    q, k, v = inputs
    mask = torch.randn(2, 1, TOKENS.total, generator=torch.Generator().manual_seed(2))
    attention = JointAttention(run, TOKENS, HEADS)
    numbers = torch.arange(TOKENS.total).view(1, -1, 1).expand(2, -1, -1)
    weights = attention.weighing(TOKENS.total, 3)(q[:, 3:4], k, numbers, mask)
    assert weights.shape == (2, 1, TOKENS.total)
    values = torch.randn(TOKENS.total, generator=torch.Generator().manual_seed(3))
    of_values = run(q[:, 3:4], k, values[:, None].expand_as(v), mask.unsqueeze(1))
    torch.testing.assert_close(weights @ values, of_values.mean(2))
