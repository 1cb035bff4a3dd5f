"""Details of the means, on made-up scores."""

import numpy as np
import pytest
from likeness.lab.evaluate.means import Score, by_subject, compared, difference, interval, mean_over

NAN = float("nan")


def scores(values: dict[tuple[str, int], list[float]], row: str = "a", pairs: int = 1) -> list[Score]:
    """Scores by subject and prompt, with seeds from 0."""
    return [
        Score(row, subject, (0,), prompt, seed, value, pairs)
        for (subject, prompt), found in values.items()
        for seed, value in enumerate(found)
    ]


UNEVEN = scores({("dog", 0): [0.2, 0.4], ("dog", 1): [0.9], ("cat", 0): [0.1]})


@pytest.mark.parametrize(("rule", "expected"), [("all", [0, 1, 2, 3]), ("input", [1, 3]), ("others", [0, 2])])
def test_photos_that_a_picture_is_compared_with(rule, expected):
    assert compared(4, (1, 3), rule) == expected


def test_the_mean_over_photos_and_over_none():
    similar = np.array([0.1, 0.5, 0.9])
    assert mean_over(similar, [0, 2]) == pytest.approx(0.5) and np.isnan(mean_over(similar, []))


def test_prompts_then_subjects():
    found = by_subject(UNEVEN, "subjects")
    assert found == {"dog": (pytest.approx((0.3 + 0.9) / 2), 1.0), "cat": (pytest.approx(0.1), 1.0)}
    assert interval(found)[0] == pytest.approx((0.6 + 0.1) / 2)


def test_pictures_of_equal_weight():
    assert interval(by_subject(UNEVEN, "images"))[0] == pytest.approx(np.mean([0.2, 0.4, 0.9, 0.1]))


def test_pairs_of_equal_weight():
    several = UNEVEN[:3] + scores({("cat", 0): [0.1]}, pairs=5)
    assert interval(by_subject(several, "pairs"))[0] == pytest.approx((0.2 + 0.4 + 0.9 + 5 * 0.1) / 8)


def test_the_orders_agree_on_even_scores():
    even = scores({(s, p): list(np.random.default_rng(p).random(4)) for s in ("dog", "cat") for p in (0, 1)})
    means = [interval(by_subject(even, order))[0] for order in ("subjects", "images", "pairs")]
    assert means == pytest.approx([means[0]] * 3)


def test_pictures_without_a_score_are_left_out():
    assert by_subject([*UNEVEN, *scores({("dog", 2): [NAN], ("owl", 0): [NAN]})], "subjects") == by_subject(
        UNEVEN, "subjects"
    )
    assert interval({}) == []


def test_the_interval_is_over_subjects():
    rng = np.random.default_rng(0)
    means = {f"s{i}": (float(rng.normal()), 1.0) for i in range(60)}
    low, high = interval(means)[1:]
    half = 1.96 * np.std([value for value, _ in means.values()]) / np.sqrt(60)
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)
    weighted = interval({name: (value, 2.0 + (name == "s1")) for name, (value, _) in means.items()})
    assert (weighted[2] - weighted[1]) / 2 == pytest.approx(half, rel=0.2)


def test_paired_differences_see_what_means_do_not():
    rng = np.random.default_rng(1)
    subjects = {f"s{i}": rng.normal(0, 0.3) for i in range(20)}
    base = scores({(name, p): [level + rng.normal(0, 0.01)] for name, level in subjects.items() for p in (0, 1)})
    better = [Score("b", s.subject, (1,), s.prompt, s.seed, s.value + 0.02) for s in base]
    gain = difference(better, base, "subjects")
    assert gain.interval == pytest.approx([0.02] * 3) and gain.rising == 1.0 and gain.pairs == 40
    apart = interval(by_subject(base, "subjects"))
    assert apart[2] - apart[1] > 0.1


def test_differences_join_inputs_and_skip_what_one_row_lacks():
    base = scores({("dog", 0): [0.2], ("dog", 1): [0.5]})
    other = [Score("b", "dog", (i,), 0, 0, value) for i, value in enumerate((0.3, 0.5))]
    gain = difference([*other, Score("b", "dog", (0,), 1, 0, NAN)], base, "subjects")
    assert gain.interval[0] == pytest.approx(0.2) and gain.pairs == 1
    assert difference(other, scores({("cat", 0): [0.1]}), "subjects") is None
