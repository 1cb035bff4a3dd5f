"""A report says what a run reused and what it lacks."""

import pytest
from likeness.patching.subject.sampler_checks import layout_of_run
from likeness.patching.subject.sampler_methods import GUIDERS
from likeness.patching.subject.sampler_report import Report
from likeness.tests.patching.subject.likeness_runs import drawn, mask, photo, sampled, subject_of
from likeness.tests.patching.subject.test_sampler_inputs import inputs

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


@pytest.mark.parametrize(
    ("method", "given", "kind"),
    [
        ("palette guidance", {"layout": "drawn mask", "mask": drawn()}, "template"),
        ("joint", {"model": "joint"}, "masks"),
    ],
)
def test_what_is_not_kept_is_not_reported_as_reused(method, given, kind):
    subject = subject_of(photo(1, 64, 64), masks={"mask0": mask(64)})
    subject.made[(kind, "of an earlier run")] = None
    report = Report(subject)
    GUIDERS[method](inputs(subject=subject, **given), report)
    assert kind not in str(report).partition("Reused")[2].partition("\n")[0]


@pytest.mark.parametrize(
    ("given", "said"), [({"denoise": 0.3}, "with denoise 0.3; raise denoise or steps."), ({"steps": 1}, "raise steps.")]
)
def test_a_run_that_is_too_short_says_what_to_raise(given, said):
    with pytest.raises(ValueError, match="expected a step between") as caught:
        sampled(method="palette guidance", **given)
    assert str(caught.value).endswith(said)


def test_a_schedule_that_begins_late_is_not_blamed_on_denoise():
    late = inputs(personalized="personalized", sampler="ddim", scheduler="ddim_uniform")
    layout, said = layout_of_run(late, "retouch")
    assert layout == "own layout" and "denoise" not in said
    assert "none of 3 steps begins in the first 0.1 of sampling; raise steps" in said
