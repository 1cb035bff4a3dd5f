"""Sets beside other packs' guidance, which evaluates the model beside the sampler's own calls."""

import comfy.patcher_extension
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from comfy_extras.nodes_sag import SelfAttentionGuidance
from likeness.tests.patching.jedi.joint_runs import by_hand, guider_of, prompts, reference, run, sampled, together
from likeness.tests.patching.jedi.test_joint import noise_of
from likeness.tests.patching.layout_and_retouch.retouch_runs import close
from likeness.tests.patching.parts_of_runs import in_tiles, in_windows
from likeness.tests.patching.tiny_models import tiny_model

SCALE, CFG, STEPS = 3.0, 4.0, 2
MIDDLE = ("middle", 0)


def of(node, model, *values):
    """The MODEL that one of the host's nodes makes."""
    return node.execute(model, *values)[0]


def identity(q, k, v, extra):
    return v


def mean_query(q, k, v, extra):
    """Self-attention with one query per picture, as smoothed energy guidance at full strength."""
    return comfy.ldm.modules.attention.optimized_attention(
        q.mean(1, keepdim=True).expand_as(q), k, v, extra["n_heads"], attn_precision=extra["attn_precision"]
    )


def mean_query_in_set(q, k, v, extra):
    return together(q.mean(1, keepdim=True).expand_as(q), k, v, extra)


def smoothed(model):
    """The MODEL with guidance away from a pass of replaced attention, as PerturbedAttentionGuidance has."""

    def guide(args):
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), mean_query, "attn1", *MIDDLE
        )
        (found,) = comfy.samplers.calc_cond_batch(args["model"], [args["cond"]], args["input"], args["sigma"], options)
        return args["denoised"] + SCALE * (args["cond_denoised"] - found)

    clone = model.clone()
    clone.set_model_sampler_post_cfg_function(guide)
    return clone


def before_guidance(model):
    """The MODEL with a function that evaluates the prompt again before guidance, through the sampler's own way."""

    def again(args):
        first, second = args["conds_out"]
        (found,) = comfy.samplers.calc_cond_batch(
            args["model"], args["conds"][:1], args["input"], args["sigma"], args["model_options"]
        )
        return [2 * first - found, second]

    clone = model.clone()
    clone.set_model_sampler_pre_cfg_function(again)
    return clone


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("guided", "slot"),
    [
        (lambda model: of(PerturbedAttentionGuidance, model, SCALE), identity),
        (smoothed, mean_query_in_set),
    ],
    ids=["identity", "queries"],
)
def test_a_perturbed_pass_is_the_sets_own(guided, slot, masked):
    model = tiny_model("sd1")
    shown = torch.ones(8, 8) if masked else None
    references = [reference(model, mask=shown)]
    guider = guider_of(model, references=references)
    noises = noise_of(guider, references, guider.settings)

    def combine(evaluate):
        full, null = evaluate(True, True), evaluate(False, False)
        return null + CFG * (full - null) + SCALE * (full - evaluate(True, True, slots={MIDDLE: slot}))

    made = run(guided(model), references=references, steps=STEPS)
    close(made, by_hand(model, combine, references, noises, steps=STEPS))


def test_an_evaluation_before_guidance_is_the_sets_own():
    """Twice a prediction minus the same prediction changes nothing, unless the second one is another."""
    model = tiny_model("sd1")
    references = [reference(model)]
    plain = run(model, references=references, steps=STEPS)
    close(run(before_guidance(model), references=references, steps=STEPS), plain)
    close(
        run(before_guidance(model), references=references, steps=STEPS, guidance="text_only"),
        run(model, references=references, steps=STEPS, guidance="text_only"),
    )


def test_a_patch_that_compares_the_sides_sees_both():
    model = tiny_model("sd1")
    references, seen = [reference(model)], []

    def spy(out, extra):
        seen.append((tuple(sorted(extra["cond_or_uncond"])), len(out)))
        return out

    spied = model.clone()
    spied.set_model_attn1_output_patch(spy)
    close(run(spied, references=references, steps=STEPS), run(model, references=references, steps=STEPS))
    assert set(seen) == {((0, 1), 6)}, "two pictures and a reference on either side"
    nag = pytest.importorskip("comfy_extras.nodes_nag")  # older hosts lack it
    compared = of(nag.NAGuidance, model, 5.0, 0.5, 2.5)
    plain = run(model, references=references, steps=STEPS)
    made = run(compared, references=references, steps=STEPS)
    assert torch.isfinite(made).all() and float((made - plain).norm() / plain.norm()) > 0.003


def test_guidance_that_reads_attention_reads_the_negative_pass():
    model = tiny_model("sd1")
    guided, references = of(SelfAttentionGuidance, model, 0.5, 2.0), [reference(model)]
    plain, made = (run(m, references=references, steps=STEPS, height=16, width=16) for m in (model, guided))
    assert torch.isfinite(made).all() and not torch.equal(made, plain)
    with pytest.raises(ValueError, match=r"Joint Image Sampler: expected .* reads attention for guidance text_only"):
        run(guided, references=references, guidance="text_only")


def test_outside_the_window_other_guidance_sees_single_pictures():
    model = tiny_model("sd1")
    guided = of(PerturbedAttentionGuidance, model, SCALE)
    late = {"start_percent": 0.99, "steps": STEPS}
    close(run(guided, references=[reference(model)], **late), run(guided, strength=0.0, steps=STEPS))


def test_an_evaluation_of_other_latents_is_refused():
    model = tiny_model("sd1")

    def twice(args):
        x = torch.cat([args["input"]] * 2)
        comfy.samplers.calc_cond_batch(
            args["model"], [args["cond"]], x, args["sigma"][:1].expand(len(x)), args["model_options"]
        )
        return args["denoised"]

    model.set_model_sampler_post_cfg_function(twice)
    with pytest.raises(ValueError, match="Joint Image Sampler: expected other guidance to evaluate the 2 pictures"):
        run(model, references=[reference(model)], steps=1)


def test_what_divides_a_set_is_named():
    model, calls = tiny_model("sd1"), []
    windows = guider_of(in_windows(model), references=[reference(model)])
    windows.model_patcher.add_wrapper(comfy.patcher_extension.WrappersMP.APPLY_MODEL, lambda *_: calls.append(1))
    words = "Joint Image Sampler: expected model calls with 3 pictures, got context windows of 2; remove .* to 3"
    with pytest.raises(ValueError, match=words):
        sampled(windows, {"samples": torch.zeros(1, 4, 8, 8)})
    assert not calls, "before sampling"
    assert torch.isfinite(run(in_windows(model, length=3), references=[reference(model)], steps=1)).all()
    for together_ in (True, False):
        with pytest.raises(ValueError, match=r"with the whole picture, 64 x 64 pixels, got one with 64 x 32; .*Tiled"):
            run(in_tiles(model, together_), references=[reference(model)], steps=1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"start_percent": 0.6, "end_percent": 0.2}, "start_percent 0.6 lies after end_percent 0.2; swap them"),
        ({"texts": 1}, "a single picture without references has no other to look at"),
        ({"start_percent": 0.5, "end_percent": 0.5}, None),
        ({"strength": 0.0}, None),
    ],
)
def test_a_set_without_effect_says_so(options, words, caplog):
    model = tiny_model("sd1")
    texts = prompts(model, options.pop("texts", 2))
    run(model, texts, steps=1, **options)
    assert words in caplog.text if words else not [r for r in caplog.records if "no effect" in r.getMessage()]
