"""Runs of models of which the host keeps only a part of the weights loaded, and casts the others for each call."""

import comfy.model_management
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from likeness.patching.features.lending import BANKED
from likeness.patching.features.references import INVERTED, NOISED
from likeness.patching.host.fingerprint import Fingerprint
from likeness.patching.host.identity import identity_of
from likeness.tests.patching.jedi import joint_runs
from likeness.tests.patching.layout_and_retouch import retouch_runs
from likeness.tests.patching.layout_and_retouch.retouch_runs import close
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.tiny_models import run_ksampler, tiny_model
from likeness.tests.patching.two_models import add_lora

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
SHARE = 0.5


@pytest.fixture
def partly(monkeypatch):
    """Calls a function while the host has memory for a part of each model's weights, after all are unloaded.

    Asserts that the models that the function has loaded were never whole.
    """

    def run(make, *models):
        loaded, load = [], ModelPatcher.partially_load

        def limited(self, device_to, extra_memory=0, force_patch_weights=False):
            room = SHARE * self.model_size() - self.model.model_loaded_weight_memory
            made = load(self, device_to, min(extra_memory, room), force_patch_weights)
            loaded.append((self.model, self.loaded_size() / self.model_size(), _cast(self)))
            return made

        comfy.model_management.unload_all_models()
        with monkeypatch.context() as patch:
            patch.setattr(ModelPatcher, "partially_load", limited)
            made = make()
        comfy.model_management.unload_all_models()
        assert {id(model) for model, *_ in loaded} == {id(model.model) for model in models}
        assert all(0 < share <= SHARE and cast for _, share, cast in loaded)
        return made

    return run


def _cast(model) -> int:
    """The number of layers that the host casts for each call."""
    return sum(getattr(layer, "comfy_cast_weights", False) for layer in model.model.diffusion_model.modules())


def far(a, b) -> bool:
    return float((a - b).norm() / b.norm()) > 1e-3


def test_a_plain_run(partly):
    model = add_lora(tiny_model())
    close(partly(lambda: run_ksampler(model), model), run_ksampler(model))


@pytest.mark.parametrize("kind", [NOISED, INVERTED])
def test_a_banked_retouch(partly, kind):
    model = add_lora(tiny_model())

    def run():
        reference = retouch_runs.reference(model, kind=kind)
        counted, calls = retouch_runs.counting(model)
        patched = retouch_runs.retouched(counted, [reference], mode=BANKED)
        return retouch_runs.run(patched), retouch_runs.run(patched), len(calls)

    first, second, calls = partly(run, model)
    whole, _, expected = run()
    assert torch.equal(first, second) and calls == expected and far(whole, retouch_runs.run(model))
    close(first, whole)


def test_features_of_a_whole_model_serve_it_in_part(partly):
    model = add_lora(tiny_model())
    counted, calls = retouch_runs.counting(model)
    patched = retouch_runs.retouched(counted, [retouch_runs.reference(model)], mode=BANKED)
    whole = retouch_runs.run(patched)
    del calls[:]
    close(partly(lambda: retouch_runs.run(patched), model), whole)
    assert len(calls) == retouch_runs.STEPS


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_guidance_by_a_palette(partly, family):
    model, template = add_lora(guidance_runs.model_of(family)), guidance_runs.recorded(family)

    def run():
        patched, _ = guidance_runs.guided(model, guidance_runs.palette(model, family), template, family)
        return guidance_runs.sampled(patched, family)

    found, whole = partly(run, model), run()
    close(found, whole)
    assert far(whole, guidance_runs.sampled(model, family))


def test_a_joint_set(partly):
    model = add_lora(tiny_model())

    def run(**settings):
        return joint_runs.run(model, references=[joint_runs.reference(model)], **settings)

    whole = run()
    close(partly(run, model), whole)
    assert far(whole, run(strength=0.0))


@pytest.mark.parametrize("shared", [True, False])
def test_two_models(partly, shared):
    vanilla, personalized = tiny_model(), add_lora(tiny_model() if shared else tiny_model(seed=1))

    def run():
        return retouch_runs.layout(personalized, vanilla=vanilla, switch=1, record="decoder")

    (found, trajectory), (whole, expected) = partly(run, vanilla, personalized), run()
    close(found, whole)
    close(torch.cat(trajectory.latents), torch.cat(expected.latents))
    assert far(whole, retouch_runs.layout(vanilla)[0])


def test_the_identity_is_that_of_the_whole_model(partly):
    model = add_lora(tiny_model())
    whole = identity_of(model)
    assert partly(lambda: (run_ksampler(model), identity_of(model))[1], model) == whole and whole.lasts


class Elsewhere(torch.Tensor):
    """Weights that say that they are on another device."""

    device = property(lambda self: torch.device("meta"))


def test_the_identity_does_not_depend_on_where_weights_are():
    def name(first, others):
        fingerprint = Fingerprint({})
        for i, weight in enumerate(torch.arange(24.0).view(4, 6)):
            fingerprint.weight(f"layer{i}", weight.as_subclass(others if i % 2 else first))
        return fingerprint.hexdigest()

    whole = name(torch.Tensor, torch.Tensor)
    assert name(Elsewhere, torch.Tensor) == name(torch.Tensor, Elsewhere) == name(Elsewhere, Elsewhere) == whole
