"""Property tests of rows and windows."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from likeness.patching.host.rows import Row, conditional_chunks, indices, rows_of_call
from likeness.patching.host.window import Window
from likeness.tests.patching.tiny_models import tiny_model

ROLES = st.lists(st.sampled_from(["target", "layout", "reference"]), min_size=1, max_size=6)
CHUNKS = st.lists(st.booleans(), min_size=1, max_size=4)


def test_plain_guidance_of_two_images():
    assert rows_of_call([False, True], 2) == (
        Row("target", 0, False),
        Row("target", 1, False),
        Row("target", 0, True),
        Row("target", 1, True),
    )


@given(CHUNKS, ROLES)
def test_every_row_is_found_once(chunks, roles):
    rows = rows_of_call(chunks, len(roles), roles)
    assert len(rows) == len(chunks) * len(roles)
    for c, flag in enumerate(chunks):
        part = rows[c * len(roles) : (c + 1) * len(roles)]
        assert [r.role for r in part] == roles and {r.conditional for r in part} == {flag}
        assert len({(r.role, r.image) for r in part}) == len(roles)
    by_role = [i for role in sorted(set(roles)) for i in indices(rows, role)]
    assert sorted(by_role) == list(range(len(rows)))
    assert sorted(indices(rows, conditional=True) + indices(rows, conditional=False)) == list(range(len(rows)))


@given(ROLES)
def test_images_are_numbered_within_their_role(roles):
    rows = rows_of_call([True], len(roles), roles)
    for role in set(roles):
        assert [rows[i].image for i in indices(rows, role)] == list(range(roles.count(role)))
    assert len(indices(rows, roles[0], image=0)) == 1


def test_roles_must_fill_the_batch():
    with pytest.raises(ValueError, match=r"expected 3 roles, .* got 2"):
        rows_of_call([True], 3, ["target", "target"])


OWNERS = {"positive": {"p"}, "middle": {"m"}, "negative": {"n"}}


@pytest.mark.parametrize(
    ("cond_or_uncond", "uuids", "owners", "expected"),
    [
        ([1, 0], (), None, (False, True)),
        ([0], (), None, (True,)),
        ([1, 0], ("n", "p"), OWNERS, (False, True)),
        ([0], ("n",), OWNERS, (False,)),  # a guider that only evaluates the negative
        ([2, 1, 0], ("p", "m", "n"), OWNERS, (True, True, False)),  # guidance with two prompts
        ([1, 0], ("p", "p"), {"positive": {"p"}, "negative": {"p", "n"}}, (False, True)),  # the host copied the uuid
        ([1, 0], ("x", "y"), OWNERS, (False, True)),
    ],
)
def test_conditional_chunks(cond_or_uncond, uuids, owners, expected):
    assert conditional_chunks(cond_or_uncond, uuids, owners) == expected


PERCENT = st.floats(0, 1)


@pytest.fixture(scope="module")
def sampling():
    return tiny_model("sd1").get_model_object("model_sampling")


@given(st.lists(PERCENT, min_size=1, max_size=4), st.floats(0.03, 14.6))
def test_windows_that_meet_share_no_level_and_leave_none_out(cuts, sigma):
    sampling = tiny_model("sd1").get_model_object("model_sampling")
    edges = [0.0, *sorted(cuts), 1.0]
    windows = [Window(a, b).resolve(sampling) for a, b in itertools.pairwise(edges)]
    assert sum(w.contains(sigma) for w in windows) == 1


@given(PERCENT, PERCENT)
def test_an_empty_window_contains_nothing(a, b):
    window = Window(max(a, b), min(a, b))
    resolved = window.resolve(None)
    assert window.empty and not any(resolved.contains(s) for s in (0.0, 0.03, 1.0, 14.6, 1e9))


def test_the_full_window_contains_every_level_of_every_schedule(sampling):
    full = Window().resolve(sampling)
    assert all(full.contains(float(s)) for s in sampling.sigmas)
    assert not full.contains(0.0)


def test_halves_agree_with_the_host(sampling):
    half = Window(0.0, 0.5).resolve(sampling)
    middle = float(sampling.percent_to_sigma(0.5))
    assert half.contains(middle * 1.01) and not half.contains(middle)
    assert torch.is_tensor(sampling.sigmas)
