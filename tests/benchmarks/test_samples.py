"""Sample sizes of the comparisons, for the subjects of the demo and for fewer."""

import pytest
from likeness.benchmarks import jedi, layout_and_retouch, pick_and_draw, samples


@pytest.mark.parametrize("subjects", [samples.REPORTED, samples.REPORTED[:6], samples.REPORTED[:2]])
def test_a_row_has_about_as_many_pictures_for_any_number_of_subjects(subjects):
    grid = samples.grid_of(subjects=subjects)
    assert grid.subjects == subjects and grid.prompts >= 4 and grid.seeds >= 4
    assert 0.85 < len(subjects) * grid.prompts * grid.seeds / samples.PICTURES < 1.2
    assert samples.grid_of(96, subjects).prompts >= 2


def test_full_runs_report_other_subjects_than_settings_were_tuned_on():
    for grid in (jedi.FULL.grid, layout_and_retouch.FULL.grid, pick_and_draw.COMPLETE.grid):
        assert grid.subjects == samples.REPORTED and not set(grid.subjects) & set(samples.TUNING)
