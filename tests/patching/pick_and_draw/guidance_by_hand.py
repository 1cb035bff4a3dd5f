"""Pick-and-Draw computed by hand in a tiny network: autograd, whole cost matrices, the modules' own hooks."""

import itertools

import comfy.ldm.modules.attention as host_attention
import comfy.sample
import torch
from likeness.patching.host.blocks import Layer
from likeness.patching.host.passes import call_arguments
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    PROMPT,
    SCHEDULE,
    SEED,
    SIDE,
    encoded,
    square,
)
from likeness.tests.patching.tiny_models import _base_model, latent

MIDDLE = {"sd1": [6, 7, 8], "sd2": [6, 7, 8], "sdxl": [3, 4, 5]}
COARSE = {"sd1": range(3, 9), "sd2": range(3, 9), "sdxl": range(3)}
WORDS = (5, 6)  # <start> a photo of a red cat


def euler(x, denoised, sigma, below):
    return x + (x - denoised) / sigma * (below - sigma)


def ddim(x, denoised, sigma, below):
    """Takes the step on z = x / sqrt(1 + sigma^2), as papers write it."""
    a, next_a = 1 / (1 + sigma**2), 1 / (1 + below**2)
    noise = (a**0.5 * x - a**0.5 * denoised) / (1 - a) ** 0.5
    return (next_a**0.5 * denoised + (1 - next_a) ** 0.5 * noise) / next_a**0.5


class ByHand:
    """The method in a network of ordinary tensors."""

    def __init__(self, family, appearance=None, layout=None, size=0.05, kind="relative", cfg=4.0, sampler="euler"):
        """appearance: its weight, or None; layout: its weight and the template's {layer: {sigma: maps}}, or None."""
        self.base = _base_model(family, torch.float32, SEED).requires_grad_(False)
        self.family, self.appearance, self.layout = family, appearance, layout
        self.size, self.kind, self.cfg = size, kind, cfg
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
        arguments = call_arguments(self.base, encoded(text, self.family), x.detach(), True)
        options = {"optimized_attention_override": lambda f, *a, **k: host_attention.attention_pytorch(*a, **k)}
        return self.base.apply_model(x, torch.full([len(x)], sigma), transformer_options=options, **arguments)

    def layers(self, what, numbers=None):
        return [
            la
            for (w, la) in self.seen
            if w == what and (numbers is None or (la.kind == "output" and la.number in numbers))
        ]

    def map(self, layer):
        """The words' share of attention, averaged over heads and words, [1, height, width]."""
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
        """Samples down the schedule with guided steps and returns the LATENT."""
        x = schedule[0] * noise.clone()
        for sigma, below in itertools.pairwise(schedule):
            x = self.moved(x, sigma)
            with torch.no_grad():
                without, given = self.denoised(x, sigma, ""), self.denoised(x, sigma, PROMPT)
                denoised = without + self.cfg * (given - without)
                x = self.step(x, denoised, sigma, below)
        return self.base.process_latent_out(x)
