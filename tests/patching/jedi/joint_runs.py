"""Sets of tiny models, and the same by hand."""

from __future__ import annotations

import itertools
from dataclasses import replace

import comfy.model_management
import comfy.sample
import comfy.samplers
import torch
from likeness.patching.features.references import NOISED, Reference, References
from likeness.patching.jedi.build import AUTOMATIC, Widgets, joint_guider
from likeness.patching.jedi.sampling import sample_set
from likeness.tests.patching.tiny_models import conditioning, latent

STEPS = 3
NEGATIVE = 11
WIDGETS = Widgets(4.0, "joint", 4.0, 1.0, "all", "fixed", AUTOMATIC)


class Captions(list):
    """One CONDITIONING for each reference."""


def prompts(model, count=2):
    return [conditioning(model, seed=30 + i) for i in range(count)]


def reference(model, seed=20, height=8, width=8, tokens=7, **fields) -> Reference:
    return Reference(
        latent(1, height, width, seed), conditioning(model, tokens=tokens, seed=40 + seed), NOISED, seed, **fields
    )


def guider_of(model, texts=None, references=(), caption=None, node="JointImageSampler", **widgets):
    """references: a list of Reference, or a LATENT; caption: of all of them."""
    given = [References((r,)) for r in references] if isinstance(references, (list, tuple)) else [references]
    texts = prompts(model) if texts is None else texts
    captions = [] if caption is None else caption if isinstance(caption, Captions) else [caption]
    negative, pictures = widgets.pop("negative", conditioning(model, seed=NEGATIVE)), widgets.pop("pictures", None)
    return joint_guider(model, texts, negative, given, captions, replace(WIDGETS, **widgets), node, pictures)


def run(
    model, texts=None, references=(), seeds=(3,), batch=1, steps=STEPS, sampler="euler", height=8, width=8, **options
):
    """The pictures of JointImageSampler."""
    texts = prompts(model) if texts is None else texts
    guider = guider_of(model, texts, references, **options)
    empty = {"samples": torch.zeros(batch, 4, height, width)}
    return sample_set(guider, empty, len(texts), list(seeds), steps, sampler, "normal", 1.0, "JointImageSampler")[
        "samples"
    ]


def alone(model, text, seed, cfg=4.0, sampler="euler", steps=STEPS):
    """One picture of KSampler."""
    empty = torch.zeros(1, 4, 8, 8)
    return comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(empty, seed),
        steps,
        cfg,
        sampler,
        "normal",
        text,
        conditioning(model, seed=NEGATIVE),
        empty,
        disable_pbar=True,
        seed=seed,
    )


def together(q, k, v, extra):
    """Every row looks at the tokens of all rows: einsum over a flat list of keys, head by head."""
    heads = extra["n_heads"]
    split = [t.unflatten(-1, (heads, -1)) for t in (q, k, v)]
    weights = torch.einsum("inhd,jmhd->hinjm", split[0], split[1]) / split[0].shape[-1] ** 0.5
    shares = weights.flatten(-2).softmax(-1).unflatten(-1, weights.shape[-2:])
    return torch.einsum("hinjm,jmhd->inhd", shares, split[2]).flatten(2)


def everywhere(act) -> dict:
    names = [("input", n) for n in range(12)] + [("middle", 0), ("middle", 1)] + [("output", n) for n in range(12)]
    return {"patches_replace": {"attn1": dict.fromkeys(names, act)}}


def by_hand(model, combine, references, noises, seeds=(3, 4), steps=STEPS, told=None):
    """Euler's method over `combine(pass_) `, where pass_(texts or None, with references) is one evaluation of the
    network.

    told(rows, references): further input channels.
    """
    from likeness.tests.patching.layout_and_retouch.retouch_runs import levels

    # Another test's LoRA may still be in the weights that all clones share.
    comfy.model_management.load_models_gpu([model])
    base = model.model
    texts, negative = prompts(model, len(seeds)), conditioning(model, seed=NEGATIVE)
    sigmas = levels(model, steps)
    empty = torch.zeros(1, 4, 8, 8)
    noise = torch.cat([comfy.sample.prepare_noise(empty, seed) for seed in seeds])
    clean = (
        torch.cat([base.process_latent_in(r.latent["samples"]) for r in references])
        if references
        else torch.zeros(0, 4, 8, 8)
    )
    highest = float(base.model_sampling.sigma_max)
    x = base.model_sampling.noise_scaling(
        torch.tensor(sigmas[0]), noise, torch.zeros_like(noise), sigmas[0] >= highest * (1 - 1e-5)
    )
    with torch.no_grad():
        for sigma, following in itertools.pairwise(sigmas):

            def evaluate(conditional, joined, x=x, sigma=sigma):
                rows = torch.cat([x, clean + sigma * noises]) if joined else x
                given = [*texts, *(r.conditioning for r in references)] if joined else texts
                entries = given if conditional else [negative] * len(rows)
                text = torch.cat([e[0][0] for e in entries])
                pooled = torch.cat([e[0][1]["pooled_output"] for e in entries])
                adm = base.encode_adm(pooled_output=pooled, device=x.device, noise=rows, width=64, height=64)
                extra = {} if adm is None else {"y": adm}
                if told is not None:
                    extra["c_concat"] = told(len(x), clean if joined else clean[:0])
                options = everywhere(together) if joined else {}
                return base.apply_model(
                    rows, rows.new_full([len(rows)], sigma), c_crossattn=text, transformer_options=options, **extra
                )[: len(x)]

            denoised = combine(evaluate)
            x = x + (x - denoised) / sigma * (following - sigma)
    return base.process_latent_out(x)
