"""Every method on the kinds of checkpoint that users have beside plain SD 1.x, SD 2.x and SDXL."""

from dataclasses import replace

import pytest
import torch
from likeness.patching.features.references import INVERTED
from likeness.patching.host.passes import sample
from likeness.patching.jedi.build import joint_guider
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.patching.layout_and_retouch.switch import Switch
from likeness.tests.patching.jedi.joint_runs import WIDGETS, prompts, sampled
from likeness.tests.patching.kinds import KINDS, in_full
from likeness.tests.patching.layout_and_retouch.retouch_runs import reference, retouched
from likeness.tests.patching.pick_and_draw import guidance_runs
from likeness.tests.patching.pick_and_draw.guidance_runs import palette
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]
SAMPLING = {
    "lcm": {"sampler": "lcm", "scheduler": "sgm_uniform", "cfg": 1.0, "steps": 4},
    "turbo": {"sampler": "euler_ancestral", "scheduler": "sgm_uniform", "cfg": 1.0, "steps": 4},
}


FAMILY = {"turbo": "sdxl", "refiner": "sdxl", "zero-SNR v-prediction": "sd2"}


def differs(found, other):
    assert torch.isfinite(found).all()
    assert float((found - other).norm() / other.norm()) > 1e-3
    assert 0.3 < float(found.norm() / other.norm()) < 3


def options_of(kind: str) -> dict:
    return {"steps": 2, "cfg": 4.0, "sampler": "euler", "scheduler": "normal", **SAMPLING.get(kind, {})}


@pytest.mark.parametrize("kind", ["zero-SNR v-prediction", "lcm", "turbo"])
def test_retouch(kind):
    """An inverted reference acts, and a layout whose model changes at a percentage is followed exactly."""
    model, options, empty = KINDS[kind](), options_of(kind), {"samples": torch.zeros(1, 4, 8, 8)}
    plain = run_ksampler(model, latent_image=empty, **options)
    changed = retouched(model, [reference(model, kind=INVERTED)], lambda_2=0, lambda_3=0)
    differs(run_ksampler(changed, latent_image=empty, **options), plain)
    guider = StepBlendedGuider(model, model, Switch(percent=0.4))
    guider.set_blended_conds(conditioning(model, seed=13), conditioning(model, seed=10), conditioning(model, seed=11))
    guider.set_cfg(options["cfg"])
    schedule = {name: options[name] for name in ("steps", "sampler", "scheduler")}
    drawn = sample(guider, empty, 3, denoise=1.0, node="test", **schedule)["samples"]
    assert guider.notices.sentences == (f"Switch_percent 0.4 is {options['steps'] // 2} of {options['steps']} steps.",)
    last = {"lambda_2": options["steps"], "lambda_3": options["steps"]}
    followed = retouched(model, [reference(model)], layout=guider.trajectory, **last)
    torch.testing.assert_close(run_ksampler(followed, latent_image=empty, **options), drawn, rtol=1e-4, atol=1e-3)


def guided_and_plain(kind: str, model):
    family = FAMILY.get(kind, "sd1")
    guided, log = guidance_runs.guided(model, palette(model, family), None, family)
    moved, plain = (guidance_runs.run(m, family, **options_of(kind)) for m in (guided, model))
    assert torch.isfinite(torch.as_tensor(log.curve("appearance")[1])).all()
    return moved, plain


@pytest.mark.parametrize("kind", ["zero-SNR v-prediction", "lcm", "inpainting", "refiner"])
def test_guidance(kind):
    differs(*guided_and_plain(kind, KINDS[kind]()))


@pytest.mark.parametrize("kind", ["fp8", "gguf"])
def test_guidance_of_compressed_weights(kind):
    """The gradient is that of the same weights in full."""
    model = KINDS[kind]()
    moved, plain = guided_and_plain(kind, model)
    differs(moved, plain)
    torch.testing.assert_close(moved, guided_and_plain(kind, in_full(model))[0], rtol=1e-3, atol=1e-3)


def test_retouch_of_packed_weights():
    model = KINDS["gguf"]()
    found, expected = (
        run_ksampler(retouched(m, [reference(m)], lambda_2=0, lambda_3=0), steps=2) for m in (model, in_full(model))
    )
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["zero-SNR v-prediction", "turbo", "refiner"])
def test_set(kind):
    model = KINDS[kind]()
    differs(set_of(model), set_of(model, strength=0.0))


def test_a_set_of_an_inpainting_model_is_refused():
    with pytest.raises(ValueError, match="such as an inpainting checkpoint; load a joint checkpoint"):
        set_of(KINDS["inpainting"]())


def set_of(model, **widgets):
    guider = joint_guider(
        model,
        prompts=prompts(model),
        negative=conditioning(model, seed=11),
        references=[latent(1, 8, 8, 20)],
        captions=[],
        widgets=replace(WIDGETS, **widgets),
        node="Joint Image Sampler",
    )
    return sampled(guider, {"samples": torch.zeros(1, 4, 8, 8)})
