"""UREMD guidance on tiny real U-Nets: that it is the formula, and what it must not change."""

import itertools

import comfy.ldm.modules.attention as host_attention
import comfy.sample
import comfy.samplers
import pytest
import torch
from likeness.patching.features.references import model_arguments
from likeness.patching.host.blocks import Layer
from likeness.patching.pick_and_draw.template import Template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SCHEDULE,
    SEED,
    SIDE,
    at_levels,
    encoded,
    guided,
    levels,
    model_of,
    noise_of,
    palette,
    recorded,
    relative,
    run,
    sampled,
    square,
    template,
)
from likeness.tests.patching.tiny_models import _base_model, latent

MIDDLE = {"sd1": [6, 7, 8], "sd2": [6, 7, 8], "sdxl": [3, 4, 5]}
COARSE = {"sd1": range(3, 9), "sd2": range(3, 9), "sdxl": range(3)}
WORDS = (5, 6)  # <start> a photo of a red cat


pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def euler(x, denoised, sigma, below):
    return x + (x - denoised) / sigma * (below - sigma)


def ddim(x, denoised, sigma, below):
    """On z = x / sqrt(1 + sigma^2), as papers write it."""
    a, next_a = 1 / (1 + sigma**2), 1 / (1 + below**2)
    noise = (a**0.5 * x - a**0.5 * denoised) / (1 - a) ** 0.5
    return (next_a**0.5 * denoised + (1 - next_a) ** 0.5 * noise) / next_a**0.5


class ByHand:
    """The method in a network of ordinary tensors, with autograd, whole cost matrices, and modules' own hooks."""

    def __init__(self, family, appearance=None, layout=None, size=0.05, kind="relative", cfg=4.0, sampler="euler"):
        """appearance, layout: weights, or None; layout comes with the template's maps, as {layer: {sigma: maps}}."""
        self.base = _base_model(family, torch.float32, SEED).requires_grad_(False)
        self.family, self.appearance, self.layout, self.size, self.kind, self.cfg = (
            family,
            appearance,
            layout,
            size,
            kind,
            cfg,
        )
        self.step = {"euler": euler, "ddim": ddim}[sampler]
        self.seen: dict = {}
        network = self.base.diffusion_model
        for kind, modules in (
            ("input", network.input_blocks),
            ("middle", [network.middle_block]),
            ("output", network.output_blocks),
        ):
            for number, module in enumerate(modules):
                blocks = [b for m in module.children() for b in getattr(m, "transformer_blocks", ())]
                for index, block in enumerate(blocks):
                    self._listen(Layer(kind, number, index), block)

    def _listen(self, layer, block):
        def keep(what, value):
            self.seen[what, layer] = value

        block.attn1.register_forward_pre_hook(lambda module, inputs: keep("hidden", inputs[0]))
        block.attn2.to_q.register_forward_hook(lambda module, inputs, output: keep("q", output))
        block.attn2.to_k.register_forward_hook(lambda module, inputs, output: keep("k", output))
        block.attn2.register_forward_pre_hook(lambda module, inputs: keep("heads", module.heads))

    def denoised(self, x, sigma, text):
        arguments = model_arguments(self.base, encoded(text, self.family), x.detach())
        options = {"optimized_attention_override": lambda f, *a, **k: host_attention.attention_pytorch(*a, **k)}
        return self.base.apply_model(x, torch.full([len(x)], sigma), transformer_options=options, **arguments)

    def layers(self, what, numbers=None):
        return [
            la
            for (w, la) in self.seen
            if w == what and (numbers is None or (la.kind == "output" and la.number in numbers))
        ]

    def map(self, layer):
        """[1, height, width]: the words' share of attention, over heads and words."""
        q, k, heads = (self.seen[what, layer] for what in ("q", "k", "heads"))
        q, k = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k))
        shares = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        side = round(q.shape[2] ** 0.5)
        return shares[..., WORDS].mean((1, 3)).unflatten(1, (side, side))

    def loss(self, x, sigma):
        total = 0.0
        if self.appearance is not None:
            clean = self.base.process_latent_in(latent(1, SIDE, SIDE, 20)["samples"])
            with torch.no_grad():
                self.denoised(clean + sigma * comfy.sample.prepare_noise(clean, 5), sigma, CAPTION)
            layers = self.layers("hidden", MIDDLE[self.family])
            inside = (
                torch.nn.functional.avg_pool2d(square()[None], 8 * SIDE // 8)[0, 0].flatten() > 0.5
            )  # these layers are 8 x 8
            palettes = {la: self.seen["hidden", la][0][inside] for la in layers}
        self.denoised(x, sigma, PROMPT)
        if self.appearance is not None:
            maps = [self.map(la) for la in self.layers("q", COARSE[self.family])]
            large = max(m.shape[1] for m in maps)
            maps = [torch.nn.functional.interpolate(m[None], (large, large), mode="bilinear") for m in maps]
            mean = torch.stack(maps).mean(0).detach()
            subject = (mean - mean.min()) / (mean.max() - mean.min()) > 0.3
            if large == 4:
                subject = subject.repeat_interleave(2, 2).repeat_interleave(2, 3)
            subject = subject.flatten()
            assert 5 < int(subject.sum()) < 60
            total = total + self.appearance * sum(
                self.distance(self.seen["hidden", la][0][subject], palettes[la]) for la in layers
            ) / len(layers)
        if self.layout is not None:
            weight, maps = self.layout
            total = total + weight * sum(self.difference(self.map(la), maps[la][sigma]) for la in maps) / len(maps)
        return total

    def distance(self, features, palette):
        directions = [f / f.norm(dim=1, keepdim=True) for f in (features, palette)]
        return (1 - directions[0] @ directions[1].T).min(1).values.mean()

    def difference(self, found, wanted):
        weights = torch.tensor([1.0]) if min(found.shape[1:]) < 2 else torch.tensor([-1.0, 0.0, -1.0]).exp()
        kernel = weights[:, None] * weights / weights.sum() ** 2
        padded = torch.nn.functional.pad((found - wanted)[None], (len(weights) // 2,) * 4, mode="reflect")
        return torch.nn.functional.conv2d(padded, kernel[None, None]).square().mean().sqrt()

    def moved(self, x, sigma):
        x = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(self.loss(x, sigma), x)
        x = x.detach()
        if self.kind == "raw":
            return x - self.size * (1 + sigma**2) * slope
        weights = [weight for weight in (self.appearance, self.layout and self.layout[0]) if weight is not None]
        return x - self.size * max(weights) * x.norm() / slope.norm() * slope

    def run(self, noise, schedule=SCHEDULE):
        """Guided Euler steps down the schedule; the LATENT."""
        x = schedule[0] * noise.clone()
        for sigma, below in itertools.pairwise(schedule):
            x = self.moved(x, sigma)
            with torch.no_grad():
                without, given = self.denoised(x, sigma, ""), self.denoised(x, sigma, PROMPT)
                denoised = without + self.cfg * (given - without)
                x = self.step(x, denoised, sigma, below)
        return self.base.process_latent_out(x)


KINDS = {
    "appearance": ({"appearance_weight": 2.0}, True, False),
    "layout": ({"layout_weight": 2.0}, False, True),
    "both": ({"layout_weight": 3.0, "step_size": 0.02}, True, True),
    "raw": ({"step": "raw", "step_size": 10.0}, True, True),
    "cfg 1": ({}, True, False),
    "ddim": ({}, True, False),
}


@pytest.mark.parametrize(("family", "kind"), [*(("sd1", kind) for kind in KINDS), ("sd2", "both"), ("sdxl", "both")])
def test_it_is_the_formula(family, kind):
    changes, with_palette, with_template = KINDS[kind]
    settings = {"cfg": 1.0 if kind == "cfg 1" else 4.0, "sampler": "ddim" if kind == "ddim" else "euler"}
    model, noise = model_of(family), noise_of(3)
    given = palette(model, family) if with_palette else None
    wanted = at_levels(recorded(family), SCHEDULE) if with_template else None
    patched, log = guided(model, given, wanted, family, **changes)
    found, plain = (sampled(m, family, noise=noise, **settings) for m in (patched, model))
    appearance = changes.get("appearance_weight", 1.0) if given else None
    layout = (changes.get("layout_weight", 1.0), wanted.maps) if wanted else None
    with torch.inference_mode(False):
        size, step = changes.get("step_size", 0.05), changes.get("step", "relative")
        expected = ByHand(family, appearance, layout, size, step, **settings).run(noise)
    print(family, kind, relative(found, expected), relative(found, plain))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert relative(found, plain) > 0.005
    assert [sigma for sigma, _ in log.entries] == list(SCHEDULE[:-1])


NEUTRAL = {
    "weights": {"appearance_weight": 0.0, "layout_weight": 0.0},
    "step": {"step_size": 0.0},
    "windows": {"appearance_start": 0.5, "appearance_end": 0.5, "layout_start": 0.9, "layout_end": 0.2},
    "blocks": {"appearance_weight": 0.0, "layout_blocks": ""},
}


@pytest.mark.parametrize("neutral", NEUTRAL)
def test_neutral_settings_change_no_bit(neutral):
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), **NEUTRAL[neutral])
    assert not any(patched.wrappers.values()) and patched.model_options == model.model_options and patched is not model
    assert torch.equal(run(patched), run(model)) and not log.entries


def test_a_step_of_almost_nothing_changes_almost_nothing():
    model = model_of()
    patched, log = guided(model, palette(model), recorded(), step_size=1e-7)
    assert relative(sampled(patched), sampled(model)) < 1e-5 and len(log.entries) == 2


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_host_may_run_cond_and_uncond_apart(family):
    model = model_of(family)
    patched, _ = guided(model, palette(model, family), recorded(family), family)
    together, apart = (sampled(patched, family, apart=a) for a in (False, True))
    assert relative(apart, together) < 1e-5 < 0.02 < relative(together, sampled(model, family))


class OneByOne(comfy.samplers.CFGGuider):
    """A guider that evaluates its conditionings in calls of their own, the negative first."""

    def predict_noise(self, x, timestep, model_options={}, seed=None):
        without, given = (
            comfy.samplers.calc_cond_batch(self.inner_model, [self.conds[name]], x, timestep, model_options)[0]
            for name in ("negative", "positive")
        )
        return without + self.cfg * (given - without)


def test_a_guider_may_evaluate_its_conditionings_one_by_one():
    model = model_of()
    patched, log = guided(model, palette(model))
    expected = sampled(patched)
    assert relative(sampled(patched, guider=OneByOne), expected) < 1e-5
    assert len(log.entries) == 2  # the gradient is taken once for both


@pytest.mark.parametrize(("family", "images"), [("sd1", 3), ("sdxl", 1)])
def test_images_of_a_batch_do_not_see_each_other(family, images):
    """images: of the template."""
    model, seeds, schedule = model_of(family), (3, 4, 5), SCHEDULE[:2]
    given, wanted = palette(model, family), template(model, family, batch=images, steps=1)
    patched, log = guided(model, given, wanted, family)
    together = sampled(patched, family, noise=noise_of(*seeds), schedule=schedule)
    losses = log.entries[0][1]
    for i, seed in enumerate(seeds):
        maps = {la: {s: m[min(i, images - 1)][None] for s, m in found.items()} for la, found in wanted.maps.items()}
        patched, log = guided(model, given, Template(wanted.family, maps), family)
        assert relative(together[i : i + 1], sampled(patched, family, noise=noise_of(seed), schedule=schedule)) < 1e-4
        for name in ("appearance", "layout"):
            torch.testing.assert_close(losses[name][i : i + 1], log.entries[0][1][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("changes", [{}, {"direction": "ref_to_gen"}, {"direction": "max"}, {"layout": True}], ids=str)
def test_it_lowers_what_it_guides(changes):
    model, term = model_of(), "layout" if "layout" in changes else "appearance"
    given, wanted = (None, template(model, steps=2, seed=21)) if "layout" in changes else (palette(model), None)
    patched, log = guided(
        model, given, wanted, step_size=0.01, iterations=3, direction=changes.get("direction", "gen_to_ref")
    )
    run(patched, steps=2)
    for step in range(2):
        losses = [entry[term].mean() for _, entry in log.entries[3 * step : 3 * step + 3]]
        assert losses[0] > losses[1] > losses[2], (step, losses)


def test_iterations_go_on_from_where_the_last_ended():
    model, noise = model_of(), noise_of(3)
    patched, log = guided(model, palette(model), None, iterations=3, step_size=0.02)
    sampled(patched, noise=noise, schedule=SCHEDULE[:2])
    assert [sigma for sigma, _ in log.entries] == [3.0] * 3
    losses = [float(entry["appearance"]) for _, entry in log.entries]
    assert losses[0] > losses[1] > losses[2]
    with torch.inference_mode(False):
        hand = ByHand("sd1", 1.0, None, 0.02)
        x = 3.0 * noise.clone()
        for expected in losses:
            assert float(hand.loss(x, 3.0)) == pytest.approx(expected, rel=1e-4)
            x = hand.moved(x, 3.0)


def test_windows_and_every_choose_the_steps():
    model, noise = model_of(), noise_of(3, side=8)
    given = palette(model)
    sigmas = levels(model, 5)[:-1]
    for changes, appearance, layout in (
        ({"every": 2}, [0, 2, 4], [0, 2, 4]),
        ({"appearance_end": 0.4, "layout_start": 0.6}, [0, 1], [3, 4]),
        ({"appearance_start": 0.2, "layout_end": 0.6, "every": 3}, [3], [0]),
    ):
        patched, log = guided(model, given, recorded(), **changes)
        run(patched, steps=5, noise=noise)
        found = [
            [sigmas.index(sigma) for sigma, entry in log.entries if name in entry] for name in ("appearance", "layout")
        ]
        assert found == [appearance, layout], changes
