"""Step-blended runs of tiny models, and runs of one of the two models alone."""

from likeness.patching.host import passes
from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
from likeness.tests.patching.tiny_models import conditioning, run_ksampler
from likeness.tests.patching.two_models import zeros

STEPS = 5


def guider_of(vanilla, personalized, switch, positive=0, personalized_positive=2, cfg=4.0):
    guider = StepBlendedGuider(vanilla, personalized, switch)
    prompts = [conditioning(vanilla, seed=s) if isinstance(s, int) else s for s in (positive, personalized_positive)]
    guider.set_blended_conds(*prompts, conditioning(vanilla, seed=1))
    guider.set_cfg(cfg)
    return guider


def run(guider, sampler="euler", steps=STEPS, scheduler="normal", start=None):
    return passes.sample(
        guider, {"samples": zeros()} if start is None else start, 3, steps, sampler, scheduler, 1.0, "test"
    )["samples"]


def alone(model, prompt=0, start=None, **settings):
    positive = conditioning(model, seed=prompt) if isinstance(prompt, int) else prompt
    start = {"samples": zeros()} if start is None else start
    return run_ksampler(model, positive, conditioning(model, seed=1), start, **{"steps": STEPS, **settings})
