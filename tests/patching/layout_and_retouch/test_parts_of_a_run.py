"""Retouches in model calls that show a part of the run: context windows, areas of prompts, tiles."""

import pytest
import torch
from likeness.patching.features.lending import BANKED, BATCHED, SEQUENTIAL
from likeness.patching.layout_and_retouch.settings import FORK, QKV_BOTH
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    POSITIVE,
    STEPS,
    close,
    layout,
    mask,
    reference,
    retouched,
    run,
)
from likeness.tests.patching.parts_of_runs import in_tiles, in_windows
from likeness.tests.patching.tiny_models import conditioning, run_ksampler, tiny_model

PICTURES = 4


def per_step():
    return mask(tokens=(1, 2), prompt_length=7)


SETTINGS = {
    "fork": {"early_swap": FORK},
    "the paper's": {"early_swap": QKV_BOTH},
    "mask": {"early_swap": FORK, "mask": mask(), "lambda_3": 2},
    "mask per step": {"early_swap": FORK, "mask": per_step(), "lambda_3": 2},
}


@pytest.fixture(scope="module")
def recorded():
    """The trajectory of a batch, with the features of the paper's blocks."""
    return layout(tiny_model("sd1"), batch=PICTURES, record="paper")[1]


@pytest.mark.parametrize("mode", [BATCHED, SEQUENTIAL, BANKED])
@pytest.mark.parametrize("settings", SETTINGS)
def test_context_windows_of_a_batch_give_the_batch(settings, mode, recorded):
    """Pictures of one batch do not look at each other, so windows change nothing."""
    model, trajectory = tiny_model("sd1"), recorded
    patched = retouched(model, [reference(model)], layout=trajectory, mode=mode, lambda_2=2, **SETTINGS[settings])
    close(run(in_windows(patched), batch=PICTURES), run(patched, batch=PICTURES))


def test_context_windows_before_and_after_the_retouch_are_the_same():
    model = tiny_model("sd1")
    trajectory = layout(model, batch=PICTURES)[1]
    made = run(retouched(in_windows(model), [reference(model)], layout=trajectory), batch=PICTURES)
    close(made, run(in_windows(retouched(model, [reference(model)], layout=trajectory)), batch=PICTURES))


def with_area(model, top=2) -> list:
    return [[text, {**rest, "area": (4, 8, top, 0), "strength": 1.0}] for text, rest in conditioning(model, seed=14)]


def test_a_region_of_a_forked_step_is_the_layouts():
    model = tiny_model("sd1")
    drawn, trajectory = layout(model)
    positive = [*conditioning(model, seed=POSITIVE), *with_area(model), *with_area(model, top=4)]
    patched = retouched(model, layout=trajectory, lambda_2=STEPS)
    empty = {"samples": torch.zeros(1, 4, 8, 8)}
    made = run_ksampler(patched, positive, conditioning(model, seed=NEGATIVE), empty, steps=STEPS)
    close(made, drawn)
    late = retouched(model, [reference(model)], layout=trajectory, lambda_2=2)
    assert torch.isfinite(run_ksampler(late, positive, latent_image=empty, steps=STEPS)).all()


@pytest.mark.parametrize("settings", [{"early_swap": QKV_BOTH}, {"mask": mask(), "lambda_2": 1, "lambda_3": 1}])
def test_a_region_without_a_layout_of_its_own_is_refused(settings):
    model = tiny_model("sd1")
    positive = [*conditioning(model, seed=POSITIVE), *with_area(model)]
    patched = retouched(model, [reference(model)], layout=layout(model)[1], **settings)
    words = r"Reference Retouch: expected prompts for the whole picture, .* 64 x 32 pixels; remove the area"
    with pytest.raises(ValueError, match=words):
        run_ksampler(patched, positive, steps=STEPS)


def test_tiles_borrow_from_references():
    model = tiny_model("sd1")
    plain, made = run(in_tiles(model)), run(in_tiles(retouched(model, [reference(model)])))
    assert torch.isfinite(made).all() and float((made - plain).norm() / plain.norm()) > 0.003


TILES = "Reference Retouch: expected model calls with the whole picture, 64 x 64 pixels, got one with 64 x 32; remove"


@pytest.mark.parametrize("together", [True, False])
def test_tiles_whose_part_of_the_layout_is_not_known_are_refused(together):
    model = tiny_model("sd1")
    patched = retouched(model, [reference(model)], layout=layout(model)[1], mask=mask())
    with pytest.raises(ValueError, match=f"{TILES} the node that divides the picture .*Tiled Diffusion"):
        run(in_tiles(patched, together))


def test_tiles_in_one_call_are_refused_where_prompts_could_be_mistaken():
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match=f"{TILES} .* one part at a time"):
        run(in_tiles(retouched(model, [reference(model)]), together=True))
    assert torch.isfinite(run(in_tiles(retouched(model, [reference(model)]), together=True), apart=True)).all()


def test_a_record_of_a_part_is_refused():
    """A layout's features are kept for the whole batch."""
    model = in_windows(tiny_model("sd1"))
    words = "expected model calls with all 4 pictures of the run, got a context window of [23]; remove the context"
    with pytest.raises(ValueError, match=words):
        layout(model, batch=PICTURES, record="paper")
    assert torch.isfinite(layout(model, batch=PICTURES)[0]).all()
