"""Gradients through tiny diffusion transformers as the host runs them: in inference mode, by kernels without any."""

import contextlib

import comfy.model_management
import comfy.samplers
import pytest
import torch
from likeness.benchmarks.fuzz.host_nodes.transformers import KINDS, sizes_of
from likeness.patching.host import frozen_forwards
from likeness.patching.host.frozen_autograd import Stop, gradient
from likeness.tests.patching import tiny_dits
from likeness.tests.patching.host.gradients import error, sampling, untouched, weights_of
from likeness.tests.patching.host.test_gradient_memory import Memory

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
SIGMA = 0.6
INTERRUPT = comfy.model_management.InterruptProcessingException


def inference_dit(family, dtype=torch.float32):
    """A MODEL loaded in inference mode; its own seed gives it weights that no other test file shares."""
    with torch.inference_mode():
        return tiny_dits.tiny_dit(family, 41, dtype)


def prompt():
    """CONDITIONING whose guidance, which Flux multiplies by 1000, is not rounded in half precision."""
    ((text, entry),) = tiny_dits.conditioning(seed=10)
    return [[text, entry | {"guidance": 4.0}]]


class Outputs:
    """An override of attention that reads the outputs of the blocks up to `last`, and a loss of them per row."""

    def __init__(self, family, last=1):
        self.family, self.last, self.seen, self.previous = family, last, {}, None

    def tap(self, options):
        self.seen, self.previous = {}, options.get("optimized_attention_override")
        options = {**options, "optimized_attention_override": self}
        if self.family == "sd3":  # whose blocks have numbers for their replacements alone
            options["patches_replace"] = {"dit": {("double_block", i): self.numbered(i) for i in range(2)}}
        return options

    def numbered(self, number):
        def block(args, extra):
            options = {**args["transformer_options"], "block_index": number}
            return extra["original_block"]({**args, "transformer_options": options})

        return block

    def __call__(self, func, q, k, *args, **kwargs):
        run = func if self.previous is None else lambda *a, **n: self.previous(func, *a, **n)
        output = run(q, k, *args, **kwargs)
        block = (kwargs.get("transformer_options") or {}).get("block_index")
        if block is not None:
            self.read(block, output)
        return output

    def read(self, block, output):
        self.seen[block] = output
        if block == self.last:
            raise Stop

    def loss(self):
        return sum(self.score(output) for output in self.seen.values())

    def score(self, output):
        wanted = torch.randn(output.shape[1:], generator=torch.Generator().manual_seed(5))
        return (output.double() - wanted.to(output)).pow(2).mean((1, 2))


def ours(model, family, x, outputs=None, **settings):
    outputs = outputs or Outputs(family)
    with sampling(model, x, prompt()) as conds:
        sigma = torch.full([len(x)], SIGMA)
        return gradient(
            model.model, conds, x, sigma, model.model_options, outputs.loss, "Node", tap=outputs.tap, **settings
        )


def plain_losses(model, family, x):
    """The same losses of a plain call, by the host's own kernels."""
    outputs = Outputs(family)
    options = outputs.tap(model.model_options["transformer_options"])
    with sampling(model, x, prompt()) as conds, contextlib.suppress(Stop):
        sigma, options = torch.full([len(x)], SIGMA), {**model.model_options, "transformer_options": options}
        comfy.samplers.calc_cond_batch(model.model, [conds], x, sigma, options)
    return outputs.loss()


def test_equals_finite_differences(dit):
    model, x = inference_dit(dit), tiny_dits.latent(dit, rows=2)["samples"]
    found = ours(model, dit, x)
    assert found.latents.shape == x.shape and not found.mutable, "copies of all that the graph saves were needed"
    torch.testing.assert_close(found.losses, plain_losses(model, dit, x), rtol=1e-4, atol=0)
    random = torch.randn(x.shape, generator=torch.Generator().manual_seed(6))
    for direction in (found.latents, random):
        step = 0.02 * direction / direction.flatten(1).norm(dim=1).view(-1, *[1] * (x.ndim - 1))
        slopes = (plain_losses(model, dit, x + step) - plain_losses(model, dit, x - step)) / 2
        expected = (found.latents * step).flatten(1).sum(1)
        close = 0.01 * 0.02 * float(found.latents.flatten(1).norm(dim=1).min())
        torch.testing.assert_close(expected.to(slopes), slopes, rtol=0.01, atol=close)


def test_recomputing_gives_the_same(dit, monkeypatch):
    model, x = inference_dit(dit), tiny_dits.latent(dit, rows=2)["samples"]
    recomputed = ours(model, dit, x)
    monkeypatch.setattr(frozen_forwards, "recomputed_jointly", lambda forward, **settings: forward)
    kept = ours(model, dit, x)
    assert torch.equal(recomputed.latents, kept.latents) and torch.equal(recomputed.losses, kept.losses)


def test_recomputing_needs_less_memory(monkeypatch):
    model, x, peaks = inference_dit("lumina2"), tiny_dits.latent("lumina2", height=16, width=16)["samples"], []
    ours(model, "lumina2", x)  # one-time allocations are not measured
    for _ in range(2):
        with Memory(model) as memory:
            ours(model, "lumina2", x, Outputs("lumina2", last=3))
        peaks.append(memory.peak)
        monkeypatch.setattr(frozen_forwards, "recomputed_jointly", lambda forward, **settings: forward)
    assert peaks[0] < 0.5 * peaks[1]


class Sampler:
    """Takes a gradient after every step of a sampler without changing it."""

    def __init__(self, family):
        self.family, self.found = family, []

    def __call__(self, args):
        outputs = Outputs(self.family)
        call = (args["model"], args["cond"], args["input"], args["sigma"], args["model_options"])
        self.found.append(gradient(*call, outputs.loss, "Node", tap=outputs.tap))
        return args["denoised"]


def test_within_a_sampler_it_changes_nothing(dit):
    model, sampler = inference_dit(dit), Sampler(dit)
    before = weights_of(model.model.diffusion_model)
    expected = tiny_dits.run_ksampler(model, dit, steps=2)
    guided = model.clone()
    guided.set_model_sampler_post_cfg_function(sampler)
    assert torch.equal(tiny_dits.run_ksampler(guided, dit, steps=2), expected)
    assert torch.equal(tiny_dits.run_ksampler(model, dit, steps=2), expected)
    assert len(sampler.found) == 2 and all(found.latents.norm() > 0 for found in sampler.found)
    untouched(model.model.diffusion_model, before)
    assert comfy.model_management.in_training is False


class Faulty(Outputs):
    """Fails in the forward pass, or in the backward pass where `late`."""

    def __init__(self, family, fault, late):
        super().__init__(family)
        self.fault, self.late, self.training = fault, late, []

    def read(self, block, output):
        self.training.append(comfy.model_management.in_training)
        if self.late:
            output.register_hook(self.fail)
            super().read(block, output)
        else:
            self.fail()

    def fail(self, slope=None):
        raise self.fault


def stored_in(family, dtype, weights=None):
    """A MODEL whose weights are stored in a type and cast to float32 for each call, as fp8 checkpoints are."""
    config = KINDS[family][0](sizes_of(family, tiny_dits.WIDTH_TEXT, tiny_dits.WIDTH_POOLED))
    config.set_inference_dtype(dtype, torch.float32)
    base = config.get_model({}, "", device=comfy.model_management.unet_offload_device())
    base.diffusion_model.load_state_dict(weights or inference_dit(family).model.diffusion_model.state_dict())
    return tiny_dits.patcher_of(base)


def test_weights_stored_in_fp8(dit):
    x, stored = tiny_dits.latent(dit)["samples"], stored_in(dit, torch.float8_e4m3fn)
    weights = {name: weight.float() for name, weight in stored.model.diffusion_model.state_dict().items()}
    found, expected = ours(stored, dit, x), ours(stored_in(dit, torch.float32, weights), dit, x)
    assert error(found.latents, expected.latents) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dit, dtype):
    x = tiny_dits.latent(dit)["samples"]
    found, expected = ours(inference_dit(dit, dtype), dit, x), ours(inference_dit(dit), dit, x)
    assert found.latents.dtype == torch.float32 and found.latents.isfinite().all()
    assert error(found.latents, expected.latents) < (0.2 if dtype == torch.bfloat16 else 0.05)


@pytest.mark.parametrize("late", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("fault", [RuntimeError("broken"), INTERRUPT()], ids=["error", "interrupt"])
@pytest.mark.parametrize("before", [False, True], ids=["inference", "training"])
def test_the_switch_for_training_is_restored(fault, late, before, monkeypatch):
    monkeypatch.setattr(comfy.model_management, "in_training", before)
    model, outputs = inference_dit("flux"), Faulty("flux", fault, late)
    weights = weights_of(model.model.diffusion_model)
    with pytest.raises(type(fault)):
        ours(model, "flux", tiny_dits.latent("flux")["samples"], outputs)
    assert outputs.training and all(outputs.training)
    assert comfy.model_management.in_training is before
    untouched(model.model.diffusion_model, weights)
