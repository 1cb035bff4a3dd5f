"""The benchmark of the dial and of a second subject, on random weights and a random judge."""

import functools
import math

import pytest
from likeness.benchmarks import generate, likeness, two_subjects
from likeness.patching.subject.sampler_settings import NEUTRAL_PROMPT, PALETTE
from likeness.patching.subject.subject import Subject
from likeness.tests.benchmarks.cells import files_of, kept_in

pytestmark = pytest.mark.usefixtures("random_judge")
DIALS = {"guided": (PALETTE, NEUTRAL_PROMPT, (0.0, 1.0))}


def test_every_row_is_drawn_and_scored_and_the_dial_acts(random_weights, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    few_steps = generate.Settings(steps=3)
    monkeypatch.setattr(generate, "Settings", lambda: few_steps)
    monkeypatch.setattr(two_subjects, "STEPS", 1)
    monkeypatch.setattr(likeness, "DIALS", DIALS)
    monkeypatch.setattr(likeness, "Subject", functools.partial(Subject, inversion_steps=1, area="whole picture"))
    report = likeness.run(True, random_weights)
    assert [row["name"] for row in report.rows] == ["guided, likeness 0", "guided, likeness 1"]
    plain, guided = (row["identity"][0] for row in report.rows)
    assert all(map(math.isfinite, (plain, guided))) and plain != guided
    assert report.figures["two_subjects_identity"] != report.figures["two_subjects_identity_uncoupled"]
    assert report.figures["two_subjects_raised"] in (0, 1)
    assert kept_in(tmp_path) == files_of(likeness.sweeps(True, random_weights)) != set()
