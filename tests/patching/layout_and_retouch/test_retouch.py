"""The retouch on tiny real U-Nets: its ends, its modes, and what it leaves alone."""

import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.features.references import INVERTED, NOISED, Reference
from likeness.patching.layout_and_retouch.settings import APPEND, FORK, NONE, QK_BOTH, QK_SELF, QKV_BOTH, REPLACE
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    NEUTRAL,
    POSITIVE,
    STEPS,
    close,
    counting,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, latent, run_ksampler, tiny_model

MODES = (BATCHED, SEQUENTIAL, BANKED)


def far(a, b):
    return float((a - b).abs().mean() / b.abs().mean()) > 1e-3


# Each pair of the three choices.
@pytest.mark.parametrize(
    ("family", "attention", "kind"),
    [
        ("sd1", REPLACE, NOISED),
        ("sd1", APPEND, INVERTED),
        ("sd2", REPLACE, INVERTED),
        ("sd2", APPEND, NOISED),
        ("sdxl", REPLACE, NOISED),
        ("sdxl", APPEND, INVERTED),
    ],
)
def test_modes_agree(family, attention, kind):
    model = tiny_model(family)
    subject = torch.zeros(64, 64)
    subject[8:56, 16:48] = 1
    settings = {"attention": attention, "mask": mask(tokens=(1, 3), prompt_length=7), "early_swap": NONE}
    results, trajectory = [], layout(model)[1]
    for mode in MODES:
        items = [reference(model, kind=kind, mask=subject), reference(model, 21, kind=kind)]
        results.append(run(retouched(model, items, layout=trajectory, mode=mode, **settings)))
    close(results[1], results[0])
    close(results[2], results[0])
    assert far(results[0], run(model))


@pytest.mark.parametrize("early", [QKV_BOTH, QK_BOTH, QK_SELF])
def test_early_swaps_agree_between_modes(family, early):
    model = tiny_model(family)
    trajectory = layout(model)[1]
    first, second = (
        run(
            retouched(model, layout=trajectory, early_swap=early, lambda_2=2, mode=m, references=[reference(model)]),
            prompt=NEUTRAL,
        )
        for m in (BATCHED, SEQUENTIAL)
    )
    close(first, second)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "ddim", "dpmpp_2m_sde", "heun"])
def test_fork_is_the_layout_until_lambda_2(sampler):
    """With all steps forked, the result is the layout itself: the network never runs."""
    model = tiny_model("sd1")
    picture, trajectory = layout(model, sampler=sampler)
    patched = retouched(model, [reference(model)], layout=trajectory, early_swap=FORK, lambda_2=STEPS)
    torch.testing.assert_close(run(patched, sampler=sampler, prompt=NEUTRAL), picture, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [NOISED, INVERTED])
@pytest.mark.parametrize("sampler", ["euler", "dpm_2", "heun"])
def test_fork_of_a_picture_ends_at_the_picture(sampler, kind):
    """dpm_2 also calls the model between two steps."""
    model = tiny_model("sd1")
    picture = reference(model, kind=kind)
    patched = retouched(model, [reference(model)], layout=picture, early_swap=FORK, lambda_2=STEPS)
    torch.testing.assert_close(run(patched, sampler=sampler), picture.latent["samples"], rtol=1e-4, atol=1e-4)


def test_fork_equals_the_swap_where_nothing_differs(family):
    """One set of weights for both paths: the literal swap of queries, keys and values at every layer makes the target
    the layout.

    SDXL's pooled text does not pass through attention, so there the prompts have to be the same.
    """
    model = tiny_model(family)
    trajectory = layout(model)[1]
    items, prompt = [reference(model)], POSITIVE if family == "sdxl" else NEUTRAL
    literal, forked = (
        run(retouched(model, items, layout=trajectory, early_swap=e, lambda_2=2, mode=SEQUENTIAL), prompt=prompt)
        for e in (QKV_BOTH, FORK)
    )
    close(literal, forked)


@pytest.mark.parametrize("mode", MODES)
def test_all_layout_mask_reproduces_the_layouts_attention(mode):
    """Mask 0 everywhere from the first step on, same weights and prompts: the layout's own picture."""
    model = tiny_model("sd1")
    picture, trajectory = layout(model, record="all" if mode == BANKED else "")
    patched = retouched(
        model,
        [reference(model)],
        layout=trajectory,
        mask=mask(value=0.0),
        lambda_2=0,
        lambda_3=0,
        early_swap=NONE,
        mode=mode,
        blocks=("output9", "output10", "output11"),
    )
    close(run(patched), picture)


def test_mask_1_is_no_blending():
    model = tiny_model("sd1")
    trajectory, items = layout(model)[1], [reference(model)]
    blended = run(retouched(model, items, layout=trajectory, mask=mask(value=1.0)))
    assert torch.equal(blended, run(retouched(model, items, layout=trajectory)))


@pytest.mark.parametrize("mode", MODES)
def test_blending_from_the_end_on_is_no_mask(mode):
    model = tiny_model("sd1")
    settings = {"layout": layout(model)[1], "mode": mode}
    late = run(
        retouched(model, [reference(model)], mask=mask(tokens=(1,), prompt_length=7), lambda_3=STEPS, **settings)
    )
    assert torch.equal(late, run(retouched(model, [reference(model)], **settings)))


@pytest.mark.parametrize("mode", MODES)
def test_cond_and_uncond_apart(mode):
    model = tiny_model("sd1")
    trajectory = layout(model)[1]
    patched = retouched(
        model, [reference(model)], layout=trajectory, mask=mask(tokens=(1,), prompt_length=7), mode=mode
    )
    together = run(patched)
    close(run(patched, apart=True), together)
    assert torch.equal(run(patched), together)


@pytest.mark.parametrize("mode", MODES)
def test_cfg_1(mode):
    model = tiny_model("sd1")
    trajectory = layout(model)[1]
    patched = retouched(
        model, [reference(model)], layout=trajectory, mask=mask(tokens=(1,), prompt_length=7), mode=mode
    )
    assert far(run(patched, cfg=1.0), run(model, cfg=1.0))


@pytest.mark.parametrize(("batch", "height", "width"), [(2, 8, 8), (5, 9, 7), (1, 5, 11)])
def test_batches_and_odd_sizes(family, batch, height, width):
    model, steps = tiny_model(family), 2
    trajectory = layout(model, batch=batch, height=height, width=width, steps=steps)[1]
    size = {"batch": batch, "height": height, "width": width, "steps": steps}
    settings = {"layout": trajectory, "mask": mask(height, width, tokens=(1,), prompt_length=7)}
    items = [reference(model, height=12, width=8)]  # at its own resolution
    batched, sequential, banked = (run(retouched(model, items, mode=mode, **settings), **size) for mode in MODES)
    close(batched, sequential)
    close(banked, sequential)


@pytest.mark.parametrize("mode", MODES)
def test_each_side_looks_at_its_own(family, mode):
    """A reference that is the target itself, in latents and both prompts, changes nothing."""
    model = tiny_model(family)
    given = latent(1, 8, 8, 20)
    item = Reference(given, conditioning(model, seed=POSITIVE), NOISED, 3)
    settings = {"positive": conditioning(model, seed=POSITIVE), "latent_image": given, "steps": 1, "denoise": 0.5}
    swapped = retouched(model, [item], mode=mode, early_swap=NONE, lambda_2=0)
    for negative in (conditioning(model, seed=NEGATIVE), conditioning(model, seed=NEGATIVE, tokens=14)):
        close(run_ksampler(swapped, negative=negative, **settings), run_ksampler(model, negative=negative, **settings))
    other = retouched(model, [reference(model)], mode=mode, early_swap=NONE, lambda_2=0)
    assert far(run_ksampler(other, **settings), run_ksampler(model, **settings))


def test_references_get_the_text_of_a_negative_prompt_alone():
    model = tiny_model("sdxl")
    patched = retouched(model, [reference(model)], mode=SEQUENTIAL, early_swap=NONE, lambda_2=0)
    positive, negative = conditioning(model, seed=POSITIVE), conditioning(model, seed=NEGATIVE)
    image = {"samples": torch.zeros(1, 4, 8, 8)}
    combined = [*negative, *conditioning(model, seed=33)]
    windowed = [[negative[0][0], {**negative[0][1], "start_percent": 0.0, "end_percent": 1.0, "strength": 1.0}]]
    expected = run_ksampler(patched, positive, negative, image)
    close(run_ksampler(patched, positive, windowed, image), expected)
    assert far(run_ksampler(patched, positive, combined, image), expected)


@pytest.fixture(scope="module")
def other_noise():
    """A layout of other noise, and the picture without a retouch."""
    return layout(tiny_model("sd1"), seed=4)[1], run(tiny_model("sd1"))


# Each pair of the three choices.
@pytest.mark.parametrize(
    ("attention", "mode", "early"),
    [
        ((REPLACE, APPEND)[(i + j) % 2], mode, early)
        for i, mode in enumerate(MODES)
        for j, early in enumerate((NONE, FORK, QKV_BOTH))
    ],
)
def test_strength_grows_from_nothing(attention, mode, early, other_noise):
    """Also where the layout has other noise."""
    model, (trajectory, plain) = tiny_model("sd1"), other_noise
    settings = {"attention": attention, "mode": mode, "layout": trajectory, "early_swap": early, "mask": mask()}
    results = [run(retouched(model, [reference(model)], strength=s, **settings)) for s in (1e-6, 0.5, 1.0)]
    distances = [float((r - plain).square().mean()) for r in results]
    assert distances[0] < 1e-6 < distances[1] < distances[2]


@pytest.mark.parametrize("mode", MODES)
def test_an_image_as_layout(mode):
    model, steps = tiny_model("sd1"), 4
    picture = layout(model, steps=steps)[0]
    source = reference(model, kind=INVERTED)
    source.latent["samples"] = picture
    result = run(
        retouched(model, [reference(model)], layout=source, mask=mask(value=0.0), lambda_2=2, lambda_3=2, mode=mode),
        steps=steps,
    )
    assert torch.isfinite(result).all() and far(result, run(model, steps=steps))


def test_texts_of_other_lengths():
    model = tiny_model("sd1")
    long, short = reference(model, tokens=14), reference(model, tokens=13)
    for items in ([long], [short], [long, short]):
        close(run(retouched(model, items, mode=BATCHED)), run(retouched(model, items, mode=SEQUENTIAL)))


@pytest.mark.parametrize("tokens", [13, 14])
def test_both_sides_are_read_also_of_texts_that_cannot_share_a_call(tokens):
    model, calls = counting(tiny_model("sd1"))

    def patched(mode):
        return retouched(
            model, [reference(model, kind=INVERTED, tokens=tokens)], mode=mode, early_swap=NONE, lambda_2=0
        )

    banked = run(patched(BANKED))
    assert calls == [1] * STEPS + ([1, 1, 2] if tokens == 13 else [2, 2]) * STEPS
    close(banked, run(patched(SEQUENTIAL)))
