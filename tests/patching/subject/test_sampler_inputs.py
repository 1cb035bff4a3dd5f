"""What the sampler cannot do is one sentence that names it; what it can is chosen and reported."""

import pytest
import torch
from likeness.nodes import LikenessSampler
from likeness.patching.host.families import discover
from likeness.patching.host.notices import Notices
from likeness.patching.subject import sampler_checks
from likeness.patching.subject.sampler_checks import chosen_method, layout_of_run
from likeness.patching.subject.sampler_inputs import Inputs
from likeness.tests.patching.subject.likeness_runs import SAMPLING, drawn, empty, models, sampled, subject, vae
from likeness.tests.patching.subject.subjects import prompt_of
from likeness.tests.patching.tiny_models import tiny_model

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
WIDGETS = {"steps": 4, "sampler": "ddim", "method": "automatic", "likeness": 1.0, "layout": "vanilla template"}


def inputs(model="vanilla", personalized=None, token=False, **changes) -> Inputs:
    given = {
        "model": models()[model],
        "vae": vae(),
        "subject": subject(),
        "prompt": prompt_of(token),
        "latent": empty(),
        "likeness": 1.0,
        "layout": "vanilla template",
        "notices": Notices("Likeness Sampler"),
        "personalized_model": None if personalized is None else models()[personalized],
        **SAMPLING,
        **changes,
    }
    return Inputs(**given)


@pytest.mark.parametrize(
    ("given", "method", "why"),
    [
        ({}, "palette guidance", "photographs alone"),
        ({"token": True}, "retouch", "learned token"),
        ({"personalized": "personalized"}, "retouch", "personalized model"),
        ({"model": "joint"}, "joint", "joint one"),
        ({"personalized": "vanilla"}, "palette guidance", "photographs alone"),
    ],
)
def test_automatic_chooses_by_the_models(given, method, why):
    chosen, reason = chosen_method(inputs(**given), "automatic")
    assert chosen == method and why in reason


@pytest.mark.parametrize("method", ["automatic", "retouch"])
def test_a_personalized_model_that_is_none_is_told(method, caplog):
    sampled(personalized="vanilla", method=method, likeness=0.0)
    assert "computes the same as model" in caplog.text


@pytest.mark.parametrize(
    ("given", "method", "layout", "said"),
    [
        ({}, "palette guidance", "vanilla template", "the first 1 of 3 steps"),
        ({"personalized": "personalized"}, "retouch", "vanilla template", "the first 1 of 3 steps"),
        ({"denoise": 0.5}, "palette guidance", "own layout", "the given picture's, since denoise 0.5"),
        ({"layout": "own layout"}, "retouch", "own layout", "the picture's own"),
        ({"layout": "drawn mask", "mask": drawn()}, "retouch", "drawn mask", "the drawn mask's"),
        ({"model": "joint"}, "joint", "own layout", "the set's own"),
    ],
)
def test_the_layout_is_that_of_the_run(given, method, layout, said):
    found, sentence = layout_of_run(inputs(**given), method)
    assert found == layout and said in sentence


@pytest.mark.parametrize(
    ("changes", "types", "said"),
    [
        ({"layout": "drawn mask"}, {}, "expected a mask for layout drawn mask, got none"),
        ({}, {"mask": "MASK"}, "expected layout drawn mask with a mask, got vanilla template"),
        ({"layout": "drawn mask", "method": "joint"}, {"mask": "MASK"}, "for method joint, got drawn mask"),
        ({"method": "retouch", "sampler": "dpm_adaptive"}, {}, "got dpm_adaptive"),
        ({"likeness": 1.5}, {}, "expected likeness from 0.0 to 1.0, got 1.5"),
        ({"method": "magic"}, {}, "expected method among automatic"),
        ({"sampler": "magic"}, {}, "expected sampler among "),
        ({}, {"subject": "IMAGE"}, "expected LIKENESS_SUBJECT for subject, got IMAGE"),
    ],
)
def test_widgets_that_contradict_each_other_are_refused_when_queued(changes, types, said):
    sentence = LikenessSampler.validate_inputs(**{**WIDGETS, **changes}, input_types=types)
    assert isinstance(sentence, str) and said in sentence and sentence.startswith("Likeness Sampler: ")


def test_widgets_that_work_are_accepted():
    assert LikenessSampler.validate_inputs(**WIDGETS, input_types={}) is True
    assert LikenessSampler.validate_inputs(**WIDGETS | {"layout": "drawn mask"}, input_types={"mask": "MASK"}) is True


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": "joint", "method": "retouch"}, "got a joint one; set method to joint"),
        ({"model": "joint", "personalized": "personalized"}, "disconnect personalized_model"),
        ({"method": "retouch"}, "expected a personalized_model that differs from model, or a prompt with a token"),
        ({"method": "palette guidance", "steps": 1}, "expected a step between 0.1 and 0.7 of sampling"),
        ({"personalized": "personalized", "steps": 1}, "expected a step between 0.2 and 1 of sampling"),
        ({"layout": "drawn mask", "mask": drawn(), "denoise": 0.6}, "layout drawn mask, got none"),
        ({"layout": "drawn mask", "mask": torch.zeros_like(drawn())}, "as Layout Template, expected a mask with"),
        ({"layout": "drawn mask", "mask": drawn().repeat(3, 1, 1)}, "expected one mask, got 3"),
        ({"latent": {"samples": torch.zeros(1, 4, 2, 16, 16)}}, "of shape [batch, channels, height, width]"),
    ],
)
def test_models_and_runs_that_cannot_work_are_one_sentence(given, said):
    with pytest.raises(ValueError, match=r"^Likeness Sampler: .*") as caught:
        sampled(**given)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("family", "said"),
    [("sd2", "expected models with one prediction type"), ("sdxl", "expected models with one latent format")],
)
def test_models_of_two_families_are_one_sentence(family, said):
    with pytest.raises(ValueError, match=f"Likeness Sampler: {said}"):
        sampled(personalized_model=tiny_model(family), method="palette guidance")


def test_a_smaller_network_of_the_same_family_is_one_sentence(monkeypatch):
    personalized = models()["personalized"]
    monkeypatch.setattr(
        sampler_checks, "discover", lambda model, node: discover(model, node)[2 * (model is personalized) :]
    )
    with pytest.raises(ValueError, match="Likeness Sampler: expected models of one family, got one with 16 and one"):
        sampled(personalized="personalized")


def test_an_inpainting_checkpoint_is_no_joint_one():
    model = tiny_model(channels=9)
    with pytest.raises(ValueError, match="such as an inpainting checkpoint"):
        sampled(model=model, method="joint")
