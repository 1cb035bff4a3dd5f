"""The masks and references of a retouch, and the inputs that it refuses."""

import pytest
import torch
from likeness.kernels.layout_and_retouch import MaskRules
from likeness.patching.features.lending import SEQUENTIAL
from likeness.patching.features.pictures import references
from likeness.patching.features.references import INVERTED, NOISED, Reference, References
from likeness.patching.host.blocks import Layer
from likeness.patching.host.rows import rows_of_call
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.mask import PER_STEP, RECORDED, MaskRun, build_mask, preview
from likeness.patching.layout_and_retouch.settings import FORK, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import STEPS, disc, layout, mask, reference, run
from likeness.tests.patching.tiny_models import conditioning, tiny_model


class Shrinks:
    """A VAE that crops to multiples of eight as ComfyUI's do, and averages."""

    ratio = 8

    def encode(self, pixels):
        height, width = (n // self.ratio * self.ratio for n in pixels.shape[1:3])
        top, left = (pixels.shape[1] - height) // 2, (pixels.shape[2] - width) // 2
        cut = pixels[:, top : top + height, left : left + width].movedim(-1, 1)
        return torch.nn.functional.avg_pool2d(torch.cat([cut, cut[:, :1]], 1), self.ratio)


class ShrinksMore(Shrinks):
    ratio = 16

    def spacial_compression_encode(self):
        return self.ratio


RULES = MaskRules()


def test_the_mask_of_both():
    made = build_mask(disc(), disc(radius=25), RECORDED, None, "", "", "decoder", RULES)
    assert not made.follows
    assert made.fixed.shape == (1, 64, 64) and made.fixed[0, 32, 32] == 1 and made.fixed[0, 0, 0] == 0
    assert 0.5 <= float(made.fixed[0, 32, 32 + 23]) < 1  # attention alone
    assert preview(made, torch.rand(1, 128, 128, 3)).shape[2] == 3 * 64 and preview(made, None).shape[2] == 2 * 64


@pytest.mark.parametrize("which", ["subject", "heatmap"])
def test_the_mask_of_one_alone(which):
    given = {"subject": (disc(), None), "heatmap": (None, disc())}[which]
    assert torch.equal(build_mask(*given, RECORDED, None, "", "", "decoder", RULES).subject, disc() > 0)


MASK_REFUSALS = [
    ((None, None), RECORDED, "neither"),
    ((disc(), disc(32, 32, 9)), RECORDED, "one size"),
    ((torch.zeros(1, 64, 64), None), RECORDED, "empty"),
    ((disc(radius=2), None), RECORDED, "minimum_area"),
    ((disc(), None), PER_STEP, "clip"),
]


@pytest.mark.parametrize(("given", "attention", "words"), MASK_REFUSALS)
def test_masks_that_cannot_be_used(given, attention, words):
    with pytest.raises(ValueError, match=words):
        build_mask(*given, attention, None, "", "", "decoder", MaskRules(minimum_area=0.01))


def test_the_mask_follows_the_step_before():
    """The maps of a level serve the next lower one, whichever of its calls comes first."""
    running = MaskRun(mask(tokens=(1,), prompt_length=7, rules=MaskRules(minimum_area=0)), (8, 8), torch.device("cpu"))

    class Call:
        sigma = 5.0
        rows = rows_of_call((True, False), 1)

    fixed = running.at(5.0, (8, 8))
    moved = torch.zeros(1, 64, 1)
    moved.view(8, 8)[2:6, 5:8] = 1
    running.record(Call(), Layer("output", 3, 0), moved, (8, 8))
    assert torch.equal(running.at(5.0, (8, 8)), fixed)
    after = running.at(4.0, (8, 8)).view(8, 8)
    assert after[4, 7] >= 0.5 and fixed.view(8, 8)[4, 7] == 0
    assert running.at(4.0, (4, 4)).shape == (1, 16, 1)


@pytest.mark.parametrize("vae", [Shrinks(), ShrinksMore()], ids=["8", "16"])
@pytest.mark.parametrize(("height", "width"), [(64, 64), (67, 93), (120, 40), (103, 512)])
def test_references_of_any_size(height, width, vae):
    subject = disc(height, width)
    made = references(torch.rand(2, height, width, 3), vae, [[torch.zeros(1, 7, 24), {}]], NOISED, 0, subject, 1.0)
    assert len(made.items) == 2
    for item in made.items:
        size = tuple(item.latent["samples"].shape[2:])
        ratio = vae.ratio
        assert size == (height // ratio, width // ratio) and item.mask.shape == (ratio * size[0], ratio * size[1])
        top, left = (height % ratio) // 2, (width % ratio) // 2
        assert torch.equal(item.mask, subject[0, top : top + ratio * size[0], left : left + ratio * size[1]])
        tokens = item.tokens(size)
        assert 0 < len(tokens) < size[0] * size[1]
    if vae.ratio == 8:
        size = f"{width // 8 * 8} x {height // 8 * 8}"
        assert str(made).splitlines()[0].startswith(f"noised reference of {size} pixels, weight 1, masked")


def test_a_subject_smaller_than_a_token_keeps_one():
    made = references(
        torch.rand(1, 64, 64, 3), Shrinks(), [[torch.zeros(1, 7, 24), {}]], NOISED, 0, disc(radius=2), 1.0
    ).items[0]
    assert len(made.tokens((2, 2))) >= 1


REFERENCE_REFUSALS = [
    ({"vae": None}, "VAE"),
    ({"mask": torch.zeros(1, 64, 64)}, "empty"),
    ({"mask": torch.ones(1, 32, 32)}, "picture's size"),
    ({"conditioning": [[torch.zeros(1, 7, 24), {}]] * 2}, "one prompt"),
    ({"conditioning": [[torch.zeros(1, 7, 24), {"control": object()}]]}, "plain prompt"),
]


@pytest.mark.parametrize(("changes", "words"), REFERENCE_REFUSALS)
def test_references_that_cannot_be_used(changes, words):
    given = {
        "image": torch.rand(1, 64, 64, 3),
        "vae": Shrinks(),
        "conditioning": [[torch.zeros(1, 7, 24), {}]],
        "mask": None,
        **changes,
    }
    with pytest.raises(ValueError, match=words):
        references(given["image"], given["vae"], given["conditioning"], NOISED, 0, given["mask"], 1.0)


SETTINGS = RetouchSettings(early_swap=FORK, lambda_2=1, lambda_3=1, mode=SEQUENTIAL)


@pytest.mark.parametrize(
    "neutral",
    [{"strength": 0.0}, {"blocks": ""}, {"start_percent": 0.5, "end_percent": 0.5}],
    ids=["strength", "blocks", "window"],
)
def test_neutral_settings_change_no_bit(family, neutral):
    model = tiny_model(family)
    given = References((reference(model),))
    settings = RetouchSettings(**{**vars(SETTINGS), **neutral})
    assert torch.equal(run(retouch(model, given, layout(model)[1], mask(), settings)), run(model))


BUILD_REFUSALS = [
    ({"lambda_2": 3, "lambda_3": 2}, True, False, "lambda_3"),
    ({}, False, True, "layout"),
    ({"early_swap": NONE}, True, False, "use for the layout"),
    ({"blocks": "output99"}, True, False, "output99"),
]


@pytest.mark.parametrize(("changes", "with_layout", "with_mask", "words"), BUILD_REFUSALS)
def test_retouches_that_could_do_nothing(changes, with_layout, with_mask, words):
    model = tiny_model("sd1")
    settings = RetouchSettings(**{**vars(SETTINGS), **changes})
    with pytest.raises(ValueError, match=words):
        retouch(
            model,
            References((reference(model),)),
            layout(model)[1] if with_layout else None,
            mask() if with_mask else None,
            settings,
        )


def test_a_reference_of_another_family_is_refused():
    model = tiny_model("sd1")
    wide = Reference({"samples": torch.randn(1, 4, 8, 8)}, [[torch.zeros(1, 7, 48), {}]], NOISED, 0)
    with pytest.raises(ValueError, match="24 wide, got 48"):
        retouch(
            model,
            References((wide,)),
            None,
            None,
            RetouchSettings(early_swap=NONE, lambda_2=0, lambda_3=0, mode=SEQUENTIAL),
        )


def test_an_empty_mask_is_refused():
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match="empty"):
        retouch(model, References((reference(model),)), layout(model)[1], torch.zeros(1, 64, 64), SETTINGS)


def test_conditioning_is_not_changed_by_a_reference():
    model = tiny_model("sdxl")
    given = conditioning(model)
    before = given[0][0].clone(), set(given[0][1])
    run(
        retouch(
            model,
            References((Reference({"samples": torch.randn(1, 4, 8, 8)}, given, INVERTED, 0, inversion_steps=1),)),
            None,
            None,
            RetouchSettings(early_swap=NONE, lambda_2=0, lambda_3=STEPS, mode=SEQUENTIAL),
        )
    )
    assert torch.equal(given[0][0], before[0]) and set(given[0][1]) == before[1]
