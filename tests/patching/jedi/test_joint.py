"""Sampling of sets, compared with the same computed by hand, and the inputs without an effect."""

import functools
import itertools

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.model_patcher import create_model_options_clone
from comfy.patcher_extension import WrappersMP
from likeness.kernels.jedi import MASK_FIRST, NOISY_FIRST
from likeness.patching.host.same import same
from likeness.patching.jedi.format import ATTACHMENT, JointFormat
from likeness.patching.jedi.members import fitted
from likeness.patching.jedi.run import JointRun
from likeness.tests.patching.jedi.joint_runs import STEPS, alone, by_hand, guider_of, prompts, reference, run, sampled
from likeness.tests.patching.layout_and_retouch.retouch_runs import close, counting
from likeness.tests.patching.tiny_models import FAMILIES, conditioning, latent, tiny_model

W, IMAGE = 4.0, 2.5


COMBINATIONS = {
    "joint": lambda s: s(False, False) + W * (s(True, True) - s(False, False)),
    "text_only": lambda s: s(False, True) + W * (s(True, True) - s(False, True)),
    "text_first": lambda s: (
        s(False, False) + W * (s(True, False) - s(False, False)) + IMAGE * (s(True, True) - s(True, False))
    ),
    "image_first": lambda s: (
        s(False, False) + IMAGE * (s(False, True) - s(False, False)) + W * (s(True, True) - s(False, True))
    ),
}


PASSES = {"joint": [4, 2], "text_only": [4, 4], "text_first": [2, 2, 4], "image_first": [4, 2, 4]}


def noise_of(guider, references, settings, seed=3, sets=1):
    """The noise that FIXED gives the references."""
    members = [fitted(r, 8, 8, "test") for r in references]
    run = JointRun(
        guider.model_patcher,
        settings=settings,
        references=references,
        members=members,
        count=2,
        sets=sets,
        seed=seed,
    )
    return run._noise(None)


@pytest.mark.parametrize("guidance", COMBINATIONS)
def test_equals_the_method_by_hand(model, guidance):
    references = [reference(model, 20), reference(model, 21)]
    guider = guider_of(model, references=references, guidance=guidance, image_cfg=IMAGE)
    expected = by_hand(model, COMBINATIONS[guidance], references, noise_of(guider, references, guider.settings))
    close(run(model, references=references, guidance=guidance, image_cfg=IMAGE), expected)


@pytest.mark.parametrize(
    ("order", "polarity"), [(MASK_FIRST, "1 is missing"), (NOISY_FIRST, "1 is missing"), (MASK_FIRST, "1 is given")]
)
def test_nine_channels_equal_the_method_by_hand(order, polarity):
    """The mask is 1 for missing pictures, whose clean channels are zero."""
    model = tiny_model("sd1", channels=9)
    references = [reference(model, 20)]

    def channels_of(missing, clean):
        mask = torch.cat([torch.ones(missing, 1, 8, 8), torch.zeros(len(clean), 1, 8, 8)])
        mask = mask if polarity == "1 is missing" else 1 - mask
        return torch.cat([mask, torch.cat([torch.zeros(missing, 4, 8, 8), clean])], 1)

    guider = guider_of(model, references=references, channel_order=order)
    channels = [4, 0, 1, 2, 3, 5, 6, 7, 8] if order == MASK_FIRST else list(range(9))
    hook = model.model.diffusion_model.register_forward_pre_hook(lambda _, given: (given[0][:, channels], *given[1:]))
    try:
        expected = by_hand(
            model,
            COMBINATIONS["joint"],
            references,
            noise_of(guider, references, guider.settings),
            channels=channels_of,
        )
    finally:
        hook.remove()
    close(run(model, references=references, channel_order=order, mask_polarity=polarity), expected)


@pytest.mark.parametrize(("family", "guidance"), zip(itertools.cycle(FAMILIES), COMBINATIONS, strict=False))
def test_several_sets_of_a_batch_are_each_by_themselves(family, guidance):
    model = tiny_model(family)
    references = [reference(model, 20), reference(model, 21)]
    guider = guider_of(model, references=references, guidance=guidance, image_cfg=IMAGE, pictures=2)
    noises = noise_of(guider, references, guider.settings, sets=2)
    latents = {"samples": torch.zeros(4, 4, 8, 8)}
    made = sampled(guider, latents, pictures=1, seeds=[3, 4, 5, 6], steps=STEPS)
    for rows, seeds, noise in ((made[:2], (3, 4), noises[:2]), (made[2:], (5, 6), noises[2:])):
        close(rows, by_hand(model, COMBINATIONS[guidance], references, noise, seeds))


@pytest.mark.parametrize(
    "options", [{"query_blend": 0.9, "query_blend_end": 1.0}, {"reference_noise": "never"}], ids=str
)
def test_several_sets_blend_and_denoise_as_one_does(options):
    model = tiny_model("sd1", channels=9)
    references = [reference(model, 20)]
    widgets = {"references": references, "channel_order": MASK_FIRST, **options}
    guider = guider_of(model, pictures=2, **widgets)
    latents = {"samples": torch.zeros(4, 4, 8, 8)}
    made = sampled(guider, latents, pictures=1, seeds=[3, 4, 5, 6], steps=STEPS)
    close(made[:2], run(model, **widgets))
    assert not torch.equal(made[2:], made[:2])


# Each pair of family and sampler, and each of the guidance's scale and one of them.
@pytest.mark.parametrize(
    ("family", "sampler", "cfg"),
    [
        (family, sampler, (1.0, 4.0)[(i + j) % 2])
        for i, family in enumerate(FAMILIES)
        for j, sampler in enumerate(["euler", "dpmpp_2m", "heun"])
    ],
)
def test_one_picture_without_references_is_the_stock_sampler(family, sampler, cfg):
    model = tiny_model(family)
    text, steps = prompts(model, 1), 3  # the second of them is the first that looks back
    made = run(model, text, sampler=sampler, cfg=cfg, steps=steps)
    assert torch.equal(made, alone(model, text[0], 3, cfg, sampler, steps))


NEUTRAL = ({"strength": 0.0}, {"blocks": ""}, {"start_percent": 0.5, "end_percent": 0.5})


# Each pair of the three choices.
@pytest.mark.parametrize(
    ("family", "neutral", "guidance"),
    [
        (FAMILIES[(i + j) % len(FAMILIES)], neutral, guidance)
        for i, neutral in enumerate(NEUTRAL)
        for j, guidance in enumerate(PASSES)
    ],
)
def test_without_coupling_every_picture_is_by_itself(family, neutral, guidance):
    model = tiny_model(family)
    texts = prompts(model)
    made = run(model, texts, [reference(model)], seeds=(5, 9), guidance=guidance, **neutral)
    for i, seed in enumerate((5, 9)):
        close(made[i : i + 1], alone(model, texts[i], seed))


def test_one_seed_counts_up():
    model = tiny_model("sd1")
    assert torch.equal(run(model, seeds=(7,)), run(model, seeds=(7, 8)))
    assert not torch.equal(run(model, seeds=(7,)), run(model, seeds=(7, 9)))


def test_permuting_members_permutes_results(model):
    texts, references = prompts(model, 3), [reference(model, 20), reference(model, 21)]
    made = run(model, texts, references, seeds=(1, 2, 3))
    turned = run(model, [texts[2], texts[0], texts[1]], references, seeds=(3, 1, 2))
    close(turned, made[[2, 0, 1]])
    close(run(model, texts, references[::-1], seeds=(1, 2, 3)), made)
    latents = [r.latent for r in references]
    both = [{"samples": torch.cat([r["samples"] for r in order])} for order in (latents, latents[::-1])]
    close(run(model, texts, both[1], seeds=(1, 2, 3)), run(model, texts, both[0], seeds=(1, 2, 3)))


def test_everything_shares_something():
    """References, captions, the other prompts and every widget change the first picture."""
    model = tiny_model("sd1")
    draw = functools.partial(run, model, steps=3)  # a window of half the steps leaves one
    texts, references = prompts(model), [reference(model)]
    made = draw(texts, references)
    others = [
        draw(texts),
        draw(texts, [reference(model, 22)]),
        draw(texts, references, caption=conditioning(model, seed=77)),
        draw([texts[0], conditioning(model, seed=78)], references),
        draw(texts, references, strength=0.5),
        draw(texts, references, blocks="decoder"),
        draw(texts, references, end_percent=0.5),
        draw(texts, references, reference_noise="fresh"),
        draw(texts, references, reference_noise="never"),
        draw(texts, references, token_dropout=0.5),
        draw(texts, references, query_blend=0.9, query_blend_end=1.0),
    ]
    for i, other in enumerate(others):
        assert not torch.allclose(other[0], made[0], rtol=1e-3, atol=1e-3), i
    assert torch.equal(draw(texts, references), made)


@pytest.mark.parametrize("guidance", PASSES)
def test_no_pass_more_than_needed(guidance):
    model, calls = counting(tiny_model("sd1"))
    references = [reference(model, 20), reference(model, 21)]

    def passes(**widgets):
        calls.clear()
        run(model, references=references, guidance=guidance, steps=1, **widgets)
        return sorted(calls)

    assert passes(image_cfg=IMAGE) == sorted(PASSES[guidance])
    assert passes(cfg=1.0, image_cfg=1.0) == [4]
    if guidance in ("text_first", "image_first"):
        assert passes(image_cfg=W) == [2, 4]
    if guidance == "text_first":
        assert passes(image_cfg=0.0) == [2, 2]
        assert passes(cfg=1.0, image_cfg=IMAGE) == [2, 4]


def test_outside_the_window_references_cost_nothing():
    model, calls = counting(tiny_model("sd1"))
    run(model, references=[reference(model)], end_percent=0.4)
    assert calls[:2] == [3, 2] and set(calls[2:]) == {4}  # after that, both sides of guidance in one call


def test_blended_queries_cost_a_pass_in_the_first_steps():
    model, calls = counting(tiny_model("sd1"))
    run(model, references=[reference(model)], query_blend=0.5, query_blend_end=0.2, steps=4)
    assert sorted(calls[:3]) == [2, 2, 3] and len(calls) == 2 * 4 + 1


def test_only_own_queries_are_by_themselves():
    """Pictures with uncoupled queries differ from coupled pictures and from uncoupled ones."""
    model = tiny_model("sd1")
    texts, references = prompts(model), [reference(model)]
    blended = run(model, texts, references, query_blend=1.0, query_blend_end=1.0)
    for other in (run(model, texts, references), run(model, texts, references, strength=0.0)):
        assert not torch.allclose(blended, other, rtol=1e-3, atol=1e-3)


def test_prompts_of_different_lengths_and_captions(model):
    texts = [conditioning(model, tokens=7, seed=50), conditioning(model, tokens=14, seed=51)]
    doubled = [[texts[0][0][0].repeat(1, 2, 1), texts[0][0][1]]]
    references = [reference(model, tokens=14)]
    close(run(model, texts, references), run(model, [doubled, texts[1]], references))


def test_nothing_is_left_behind():
    model = tiny_model("sd1")
    guider = guider_of(model, references=[reference(model)])
    before = create_model_options_clone(model.model_options)

    def fail(executor, *args, **kwargs):
        raise RuntimeError("stop")

    guider.model_patcher.add_wrapper(WrappersMP.APPLY_MODEL, fail)
    with pytest.raises(RuntimeError, match="stop"):
        sampled(guider, {"samples": torch.zeros(1, 4, 8, 8)})
    assert guider._run is None and guider.original_conds == {}
    assert same(model.model_options, before) and not model.get_attachment(ATTACHMENT)


def test_a_guider_can_be_used_twice(model):
    guider = guider_of(model, references=[reference(model)])
    first, second = (sampled(guider, {"samples": torch.zeros(count, 4, 8, 8)}) for count in (1, 2))
    assert torch.equal(first, second)


def test_a_noise_mask_and_part_of_the_schedule(model):
    """A picture is unchanged outside the mask."""
    picture = latent(1, seed=9)["samples"]
    mask = torch.zeros(1, 8, 8)
    mask[:, 2:6] = 1
    guider = guider_of(model, references=[reference(model)])
    given = {"samples": picture, "noise_mask": mask}
    made = sampled(guider, given, steps=4, denoise=0.5)
    torch.testing.assert_close(
        made[:, :, [0, 1, 6, 7]], picture[:, :, [0, 1, 6, 7]].expand(2, -1, -1, -1), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(made[0, :, 2:6], made[1, :, 2:6], atol=1e-2)


def test_another_packs_evaluation_takes_part():
    model, calls = tiny_model("sd1"), []

    def evaluate(args):
        calls.append(len(args["input"]))
        return comfy.samplers.calc_cond_batch(
            args["model"], args["conds"], args["input"], args["sigma"], args["model_options"]
        )

    expected = run(model, references=[reference(model)])
    model.model_options["sampler_calc_cond_batch_function"] = evaluate
    close(run(model, references=[reference(model)]), expected)
    assert calls == [3, 2] * STEPS


def test_what_a_checkpoint_says_is_enough():
    model = tiny_model("sd1", channels=9)
    stated = model.clone()
    stated.set_attachments(ATTACHMENT, JointFormat(MASK_FIRST))
    assert torch.equal(
        run(stated, references=[reference(model)]), run(model, references=[reference(model)], channel_order=MASK_FIRST)
    )
