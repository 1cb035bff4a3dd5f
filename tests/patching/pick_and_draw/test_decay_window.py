"""The fall of the step size over the guided part of sampling, and the steps that the node names."""

import pytest
from likeness.kernels.pick_and_draw import RELATIVE, decayed
from likeness.patching.host.families import family_of
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window
from likeness.patching.host.words import WordTokens
from likeness.patching.pick_and_draw.loss_log import LossLog
from likeness.patching.pick_and_draw.run import GuidanceRun
from likeness.patching.pick_and_draw.settings import GuidanceSettings, Term, Terms
from likeness.tests.patching.pick_and_draw.guidance_runs import guided, levels, model_of, recorded, run

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def test_a_line_ends_at_the_decay():
    assert decayed(20.0, 0.5, 1.0, root=False) == 10.0
    assert decayed(20.0, 0.5, 0.5, root=False) == 15.0
    assert decayed(20.0, 1.0, 0.7, root=False) == 20.0


@pytest.mark.parametrize(
    ("decay", "over", "first", "last"),
    [(0.5, "window", 1.0, 0.5), (0.5, "sampling", 0.95, 0.866), (1.0, "window", 1.0, 1.0)],
)
def test_the_step_size_falls_over_the_guided_window(decay, over, first, last):
    """The layout acts from 0.2 of sampling on, the appearance up to 0.5."""
    model = model_of()
    sampling = model.get_model_object("model_sampling")
    settings = GuidanceSettings(
        family=family_of(model, "test"),
        words=WordTokens((1,), 7),
        map_layers=(),
        terms=Terms(Term(1.0, Window(0.3, 0.5), ()), Term(1.0, Window(0.2, 0.4), ())),
        threshold=0.3,
        direction="gen_to_ref",
        step=RELATIVE,
        step_size=0.1,
        iterations=1,
        every=1,
        decay=decay,
        decay_over=over,
    )
    made = GuidanceRun(
        settings=settings,
        palette=None,
        template=None,
        log=LossLog(),
        weights="",
        sigmas=levels(model, 200),
        model_sampling=sampling,
        prompts=frozenset(),
    )
    sizes = [made._sizes[level] for level in made.levels]
    assert sizes[0] == pytest.approx(0.1 * first, rel=0.02) and sizes[-1] == pytest.approx(0.1 * last, rel=0.02)
    assert sizes == sorted(sizes, reverse=True) and len(sizes) == 60


def test_a_window_that_holds_nothing_does_not_stretch_the_guided_one():
    terms = Terms(Term(1.0, Window(0.3, 0.5), ()), Term(1.0, Window(0.9, 0.1), ()))
    assert terms.window == Window(0.3, 0.5)


def test_the_steps_of_a_loss_are_shown():
    model, notices = model_of(), Notices("Subject Guidance")
    patched, _ = guided(model, None, recorded(), notices=notices, layout_start=0.0, layout_end=0.6)
    run(patched, steps=2)
    assert "Layout_start 0 to layout_end 0.6: step 1 of 2." in notices.sentences
