"""Windows in percent on flow models, whose few steps lie on a shifted schedule."""

import comfy.samplers
import pytest
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window, shown_steps, steps_before
from likeness.patching.jedi.sampling import sample_set
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import NONE, PERCENT, RetouchSettings
from likeness.tests.patching.dit_verbs import SCHEDULE, empty, guider_of_set, network
from likeness.tests.patching.pick_and_draw.guidance_runs import PROMPT, encoded, guided
from likeness.tests.patching.pick_and_draw.test_guidance_dits import palette
from likeness.tests.patching.tiny_dits import conditioning, latent, run_ksampler, tiny_dit


def levels(model, steps: int) -> list[float]:
    return comfy.samplers.KSampler(model, steps, "cpu", "euler", "simple", 1.0).sigmas[:-1].tolist()


@pytest.mark.parametrize("steps", [4, 8])
def test_a_step_that_begins_at_a_percentage_belongs_to_what_starts_there(dit, steps):
    model = tiny_dit(dit)
    sampling, schedule = model.get_model_object("model_sampling"), levels(model, steps)
    for k in range(1, steps):
        late, early = (Window(*w).resolve(sampling) for w in ((k / steps, 1.0), (0.0, k / steps)))
        assert [late.contains(s) for s in schedule] == [False] * k + [True] * (steps - k)
        assert [early.contains(s) for s in schedule] == [True] * k + [False] * (steps - k)
        assert steps_before(k / steps, schedule, sampling) == k
        assert shown_steps(Window(0.0, k / steps), schedule, sampling).endswith(f"of {steps}.")


def test_percentages_are_of_the_shifted_schedule():
    """A fifth of Flux's sampling ends far above a noise level of 0.8."""
    sampling = tiny_dit("flux").get_model_object("model_sampling")
    assert Window(0.2, 1.0).resolve(sampling).start_sigma == pytest.approx(0.93, abs=0.01)


@pytest.mark.parametrize("dit", ["flux", "zimage", "qwen", "krea2"], indirect=True)
def test_a_window_without_a_step_is_told(dit):
    model = tiny_dit(dit)
    item = Reference(latent(dit, seed=9), conditioning(seed=9), NOISED, 1)
    told = []
    for start, end in ((0.5, 0.7), (0.55, 0.7)):
        settings = RetouchSettings(
            early_swap=NONE, lambda_2=0, start_percent=start, end_percent=end, mode="sequential", blocks="late"
        )
        patched = retouch(model, References((item,)), None, None, settings)
        run_ksampler(patched, dit, steps=4, cfg=1.0)
        told.append(" ".join(sentences(patched)))
    assert "Start_percent 0.5 to end_percent 0.7: step 3 of 4." in told[0] and "No effect" not in told[0]
    assert "No effect on this run, because none of its noise levels lies between start_percent 0.55" in told[1]


@pytest.mark.parametrize("dit", ["flux", "zimage"], indirect=True)
def test_lambdas_in_percent_are_of_the_shifted_schedule(dit):
    model = tiny_dit(dit)
    settings = RetouchSettings(lambdas_by=PERCENT, lambda_2_percent=0.5, lambda_3_percent=0.75)
    counted = settings.counted(levels(model, 8), model.get_model_object("model_sampling"))
    assert (counted.lambda_2, counted.lambda_3) == (4, 6)


def said_by_set(dit: str, start: float) -> tuple[str, ...]:
    guider = guider_of_set(network(dit), cfg=1.0, start_percent=start, end_percent=0.7)
    sample_set(guider, empty(dit), pictures=2, seeds=[3], **SCHEDULE | {"steps": 4})
    return guider.notices.sentences


def said_by_guidance(dit: str, start: float) -> tuple[str, ...]:
    notices, window = Notices("Node"), {"appearance_start": start, "appearance_end": 0.7}
    patched, _ = guided(network(dit), palette(dit), None, notices=notices, **window)
    run_ksampler(patched, dit, encoded(PROMPT), encoded(""), empty(dit), steps=4, cfg=1.0)
    return notices.sentences


@pytest.mark.usefixtures("as_the_host_runs")
@pytest.mark.parametrize("dit", ["flux", "zimage", "qwen", "krea2"], indirect=True)
def test_windows_of_sets_and_of_guidance(dit):
    assert "Start_percent 0.5 to end_percent 0.7: step 3 of 4." in said_by_set(dit, 0.5)
    assert "No effect on this run, because none of its noise levels lies between" in " ".join(said_by_set(dit, 0.55))
    assert "Appearance_start 0.5 to appearance_end 0.7: step 3 of 4." in said_by_guidance(dit, 0.5)
    said = " ".join(said_by_guidance(dit, 0.55))
    assert "Expected steps between appearance_start and appearance_end, got none in this run" in said


def sentences(model) -> tuple[str, ...]:
    """All that the patch of a MODEL has told."""
    (wrapper,) = (w for group in model.wrappers["apply_model"].values() for w in group)
    return wrapper.patch.notices.sentences
