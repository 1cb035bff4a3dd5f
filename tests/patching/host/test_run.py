"""The state of a run is created and dropped with it, and the incoming MODEL stays unchanged."""

import gc
import logging
import weakref
from dataclasses import dataclass, replace

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from likeness.patching.host.attach import attach, run_scope
from likeness.patching.host.run import KEY, RunState
from likeness.patching.host.window import ALWAYS, Window
from likeness.tests.patching.tiny_models import ONE_LEVEL, conditioning, latent, run_ksampler, tiny_model


@dataclass(frozen=True, eq=False)
class Probe:
    """A patch that stores tensors in the run's state and scales the model's input; it keeps weak references only."""

    log: list
    node: str = "Probe"
    window: Window = ALWAYS
    gain: float = 1.0
    fail_at: int | None = None
    error: type[BaseException] = RuntimeError

    def __call__(self, call, forward):
        memory = call.state.recall(self, dict)
        memory[len(memory)] = call.x.clone()
        self.log.append((weakref.ref(call.state), weakref.ref(memory[len(memory) - 1]), len(memory), call))
        if self.fail_at == len(memory):
            raise self.error("stop")
        return forward(call) if self.gain == 1.0 else forward(replace(call, x=self.gain * call.x))


def snapshot(value):
    """The structure of a MODEL's options, wrappers and patches, with the identity of everything in it."""
    if isinstance(value, dict):
        return {k: snapshot(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [snapshot(v) for v in value]
    return value if isinstance(value, int | float | str | type(None)) else id(value)


def state_of(model):
    weights = {name: (id(p), p.sum().item(), p._version) for name, p in model.model.diffusion_model.named_parameters()}
    parts = ("model_options", "wrappers", "callbacks", "patches", "object_patches", "attachments", "additional_models")
    return {name: snapshot(getattr(model, name)) for name in parts}, weights


ENDINGS = pytest.mark.parametrize(
    "error", [None, RuntimeError, ValueError, KeyboardInterrupt, comfy.model_management.InterruptProcessingException]
)


@ENDINGS
def test_inputs_are_untouched_however_a_run_ends(error):
    model, image = tiny_model("sd1"), latent(2)
    positive, negative = conditioning(model, seed=10), conditioning(model, seed=11)
    # All clones share weights, which may still hold another test's LoRA.
    comfy.model_management.load_models_gpu([model])
    before, inputs = state_of(model), [t.clone() for t in (image["samples"], positive[0][0], negative[0][0])]
    patched = attach(model, Probe([], fail_at=None if error is None else 2, error=error or RuntimeError))
    patched_before = state_of(patched)
    if error is None:
        run_ksampler(patched, positive, negative, image)
    else:
        with pytest.raises(error):
            run_ksampler(patched, positive, negative, image)
    assert state_of(model) == before and state_of(patched) == patched_before
    assert all(
        torch.equal(a, b) for a, b in zip(inputs, (image["samples"], positive[0][0], negative[0][0]), strict=True)
    )
    assert len(positive[0]) == 2 and positive[0][1].keys() == {"pooled_output"}
    assert torch.equal(run_ksampler(model), run_ksampler(tiny_model("sd1")))


@ENDINGS
def test_nothing_is_left_of_a_run(error):
    log = []
    patched = attach(tiny_model("sd1"), Probe(log, fail_at=None if error is None else 2, error=error or RuntimeError))
    if error is None:
        run_ksampler(patched)
    else:
        try:
            run_ksampler(patched)
        except error as stopped:
            # The traceback may keep the state alive, but only emptied.
            state = log[0][0]()
            assert state is not None and state._memory == {} and state._guider is None
            del state
            stopped.__traceback__ = None
    tensors, states = [entry[1] for entry in log], [entry[0] for entry in log]
    assert len(log) == (3 if error is None else 2)
    log.clear()
    gc.collect()
    assert [t() for t in tensors] == [None] * len(tensors)
    assert [s() for s in states] == [None] * len(states)


def tensors_alive():
    gc.collect()
    return sum(1 for o in gc.get_objects() if isinstance(o, torch.Tensor))


def test_nothing_grows_over_fifty_runs():
    log: list = []
    patched = attach(tiny_model(ONE_LEVEL), Probe(log))
    run_ksampler(patched, steps=1)
    log.clear()
    before, counts = tensors_alive(), set()
    for run in range(50):
        run_ksampler(patched, steps=1, cfg=1.0)
        assert log[0][2] == 1, f"run {run} began with the memory of the run before"
        counts.add(len(log))
        log.clear()
    assert tensors_alive() <= before and counts == {1}


@pytest.mark.parametrize("window", [Window(0.3, 0.3), Window(0.6, 0.2), Window(0.0, 0.4)])
def test_an_idle_patch_changes_no_bit_and_says_so(family, window, caplog):
    model, log = tiny_model(family), []
    with caplog.at_level(logging.WARNING):
        result = run_ksampler(attach(model, Probe(log, window=window, gain=0.5)), denoise=0.4)
    assert torch.equal(result, run_ksampler(model, denoise=0.4)) and not log
    assert [r.getMessage() for r in caplog.records if "Probe: no effect on this run" in r.getMessage()]


def test_an_active_patch_acts_and_is_silent(caplog):
    model = tiny_model("sd1")
    with caplog.at_level(logging.WARNING):
        result = run_ksampler(attach(model, Probe([], gain=0.5, window=Window(0.0, 0.5))))
    assert not torch.equal(result, run_ksampler(model))
    assert "no effect" not in caplog.text


def test_two_patches_share_a_run_and_keep_apart_what_they_remember():
    first, second = [], []
    patched = attach(attach(tiny_model("sd1"), Probe(first)), Probe(second))
    assert len(patched.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)) == 1
    run_ksampler(patched)
    assert [entry[2] for entry in first] == [entry[2] for entry in second] == [1, 2, 3]
    assert {id(e[3].state) for e in first} == {id(e[3].state) for e in second}
    run_ksampler(patched)
    assert first[3][3].state is not first[0][3].state


def test_the_same_patch_twice_acts_twice():
    model, half = tiny_model("sd1"), Probe([], gain=0.5)
    twice = run_ksampler(attach(attach(model, half), half), steps=1)
    assert torch.equal(twice, run_ksampler(attach(model, Probe([], gain=0.25)), steps=1))


def test_a_call_knows_its_run():
    log: list = []
    run_ksampler(attach(tiny_model("sd1"), Probe(log)), latent_image=latent(3), steps=4)
    calls = [entry[3] for entry in log]
    sigmas = [float(s) for s in calls[0].options["sample_sigmas"]]
    assert [c.sigma for c in calls] == sigmas[:-1]
    assert all(len(c.rows) == len(c.x) == 6 for c in calls)
    assert [(r.image, r.conditional) for r in calls[0].rows] == [
        (0, False),
        (1, False),
        (2, False),
        (0, True),
        (1, True),
        (2, True),
    ]


def test_a_guider_with_two_prompts_is_understood():
    """Dual CFG lists the negative first, so the index in the list does not tell the side."""
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    log: list = []
    model = attach(tiny_model("sd1"), Probe(log))
    guider = Guider_DualCFG(model)
    guider.set_conds(*(conditioning(model, seed=s) for s in (10, 12, 11)))
    guider.set_cfg(3.0, 2.0)
    noise = latent()["samples"]
    guider.sample(
        noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), torch.tensor([5.0, 1.0, 0.0]), seed=0
    )
    call = log[0][3]
    flags = {i: row.conditional for i, row in zip(call.options["cond_or_uncond"], call.rows, strict=True)}
    assert flags == {0: False, 1: True, 2: True}


def test_a_model_call_outside_a_run_is_refused():
    from likeness.patching.host.attach import _PatchedCalls

    with pytest.raises(RuntimeError, match=r"^Probe: expected to run inside a sampler, got a model call outside"):
        _PatchedCalls(Probe([]))(None, torch.zeros(1), torch.zeros(1))


def test_a_scope_inside_a_scope_is_the_same_run():
    guider = comfy.samplers.CFGGuider(tiny_model("sd1"))
    options = guider.model_options
    with run_scope(guider, torch.tensor([1.0, 0.0])) as outer:
        assert RunState.of(guider.model_options["transformer_options"]) is outer and outer.sigmas == (1.0, 0.0)
        with run_scope(guider, torch.tensor([1.0, 0.0])) as inner:
            assert inner is outer
        assert outer.recall("x", lambda: 1) == 1
    assert guider.model_options is options and KEY not in options["transformer_options"]
    assert outer._memory == {}


def test_patches_of_both_models_live_through_a_step_blended_run():
    from likeness.patching.layout_and_retouch.step_blended import StepBlendedGuider
    from likeness.patching.layout_and_retouch.switch import Switch

    first, second = [], []
    vanilla, personalized = tiny_model("sd1"), tiny_model("sd1", seed=9)
    guider = StepBlendedGuider(
        attach(vanilla, Probe(first)),
        attach(personalized, Probe(second, gain=0.5)),
        Switch(steps=2),
        "StepBlendedSampler",
    )
    guider.set_blended_conds(*(conditioning(vanilla, seed=s) for s in (10, 12, 11)))
    guider.set_cfg(4.0)
    noise = latent()["samples"]
    sigmas = torch.tensor([9.0, 6.0, 3.0, 1.0, 0.0])
    guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=0)
    assert [e[3].sigma for e in first] == [9.0, 6.0] and [e[3].sigma for e in second] == [3.0, 1.0]
    assert first[0][3].state is not second[0][3].state
    assert all(e[3].state._memory == {} for e in first + second)
    assert [row.conditional for row in second[0][3].rows] == [False, True]
