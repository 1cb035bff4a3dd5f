import pytest
import torch
from likeness.kernels.layer_probe import exchanged, leaning, relative_change, sides


def tokens(rows: int, count: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, count, 4, generator=torch.Generator().manual_seed(seed))


def attend(q, k, v):
    return torch.nn.functional.scaled_dot_product_attention(q, k, v)


def test_each_test_borrows_from_the_moved_picture():
    k, v = tokens(6, 5, 1), tokens(6, 5, 2)
    keys, values = exchanged(k, v, 3)
    for row in range(6):
        assert torch.equal(keys[row, :3], k[4 + row % 2, :3])
        assert torch.equal(keys[row, 3:], k[row, 3:]) and torch.equal(values[row, 3:], v[row, 3:])
    for row, of in enumerate([4, 5, 2, 3, 4, 5]):
        assert torch.equal(values[row, :3], v[of, :3])


@pytest.mark.parametrize(("follows", "unchanged"), [("content", 0), ("position", 1)])
def test_attention_that_follows_one_of_both_passes_the_other_ones_test(follows, unchanged):
    content, places = 9 * torch.eye(4), 9 * torch.eye(4)
    kinds = torch.tensor([0, 1, 2, 3])
    moved = kinds.roll(2)
    values = tokens(1, 4, 3)[0]
    seen = [places, places] if follows == "position" else [content[kinds], content[moved]]
    q = seen[0].expand(3, -1, -1)
    k = torch.stack([seen[0], seen[0], seen[1]])
    v = torch.stack([values[kinds], values[kinds], values[moved]])
    plain, made = attend(q, k, v), attend(q, *exchanged(k, v, 4))
    change = relative_change(plain[:2], made[:2])
    assert change[unchanged] < 1e-5 and change[1 - unchanged] > 0.5


def test_a_change_is_relative_to_the_spread():
    plain, other = tokens(2, 6, 4), tokens(2, 6, 5)
    found = relative_change(plain, plain + other)
    assert torch.allclose(found, relative_change(10 * plain + 3, 10 * plain + 3 + 10 * other), rtol=1e-4)
    assert torch.equal(relative_change(plain, plain), torch.zeros(2))
    assert torch.isfinite(relative_change(torch.ones(1, 3), torch.ones(1, 3))).all()


def test_lists_have_the_layers_that_lean_most():
    position = torch.tensor([0.4, 0.1, 0.2, 0.001, 0.3])
    content = torch.tensor([0.1, 0.4, 0.2, 0.001, 0.4])
    lean = leaning(position, content)
    assert sides(lean, 0.3) == ([0], [1])
    assert sides(lean, 0.5) == ([0, 2], [1, 4])
    assert sides(lean, 0.01) == ([0], [1])
    # The scale of one test does not count.
    assert torch.allclose(leaning(9 * position, content), lean)


def test_a_layer_without_effect_is_on_neither_side():
    lean = leaning(torch.tensor([0.0, 0.2, 0.0]), torch.tensor([0.0, 0.0, 0.1]))
    assert lean[0] == 0 and sides(lean, 0.5) == ([1], [2])
    assert sides(leaning(torch.zeros(2), torch.tensor([0.0, 1.0])), 0.5) == ([], [1])
    assert sides(leaning(torch.ones(1), torch.ones(1)), 0.5) == ([], [])
