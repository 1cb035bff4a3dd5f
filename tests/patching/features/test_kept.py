"""A node that is executed again with the same picture finds its inversions and features, whatever its unused seed."""

import gc

import pytest
import torch
from likeness.nodes.attention_maps import LikenessAttentionMaps
from likeness.nodes.palette import AppearancePalette
from likeness.nodes.reference import LikenessReference
from likeness.patching.features import kept
from likeness.patching.features.lending import BANKED
from likeness.patching.features.references import INVERTED, NOISED
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import counting, run
from likeness.tests.patching.pick_and_draw.guidance_runs import CAPTION, SIDE, SUBJECT, clip_of, square
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model

SETTINGS = RetouchSettings(NONE, 0, 2, attention=APPEND, mode=BANKED)


class Vae:
    """Encodes pixels by their mean over each latent pixel."""

    def encode(self, pixels):
        gray = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8).mean(1, keepdim=True)
        return gray.repeat(1, 4, 1, 1) - torch.arange(4).view(1, 4, 1, 1) / 4


VAE = Vae()


def photo(seed=5):
    return torch.rand(1, 64, 64, 3, generator=torch.Generator().manual_seed(seed))


def executed(image, model, source=INVERTED, seed=0, prompt=6, **others):
    """The REFERENCE of an execution with inputs as the host gives them."""
    text = conditioning(model, seed=prompt)
    size = {"size": "own size", "inversion_steps": 3}
    return LikenessReference.execute(image, VAE, text, source, seed, 1.0, **{**size, **others}).args[0]


def run_counted(model, references):
    counted, calls = counting(retouch(model, references, None, None, SETTINGS))
    return run(counted, steps=2), len(calls)


def test_a_changed_seed_that_is_not_used_inverts_nothing_again():
    model, image = tiny_model("sd1", seed=43), photo()
    first, calls = run_counted(model, executed(image, model, seed=1))
    again, fewer = run_counted(model, executed(image, model, seed=2))
    assert torch.equal(again, first) and fewer == 2 < calls
    heavier = executed(image, model, seed=3).items[0]
    assert heavier.bank.size_in_bytes and heavier.inversions


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": 7},
        {"source": NOISED, "seed": 4},
        {"source": NOISED, "seed": 5},
        {"mask": torch.ones(1, 64, 64)},
        {"inversion_steps": 4},
    ],
)
def test_what_features_depend_on_makes_other_ones(change):
    model, image = tiny_model("sd1", seed=43), photo()
    item = executed(image, model).items[0]
    other = executed(image, model, **change).items[0]
    assert other.bank is not item.bank
    assert executed(image, model, **change).items[0].bank is other.bank
    assert executed(photo(), model).items[0].bank is not item.bank


def test_nothing_outlives_the_picture():
    model, image = tiny_model("sd1", seed=43), photo()
    before = len(kept._kept)
    executed(image, model)
    assert len(kept._kept) == before + 1
    for prompt in range(20):
        executed(image, model, prompt=prompt)
    assert len(kept._kept[image]) <= 2 * kept._MOST
    del image
    gc.collect()
    assert len(kept._kept) == before


def palette(model, samples, seed, mask=None):
    widgets = {"text": CAPTION, "word": SUBJECT, "source": INVERTED, "seed": seed, "threshold": 0.3, "weight": 1.0}
    places = {"blocks": "paper", "map_blocks": "decoder", "start_percent": 0.0, "end_percent": 1.0, "mask": mask}
    made = AppearancePalette.execute(model, clip_of(), latent=samples, **widgets, **places)
    return made.args[0].references.items[0]


def test_a_palette_executed_again_keeps_its_inversions():
    model, samples = tiny_model("sd1", seed=43), latent(1, SIDE, SIDE)
    item, again = (palette(model, samples, seed, square()) for seed in (1, 2))
    assert again.bank is item.bank and again.inversions is item.inversions
    found = palette(model, samples, 1), palette(model, samples, 2)
    # Here the seed draws the noise of the mask, but an inversion uses neither.
    assert found[0].inversions is found[1].inversions


@pytest.mark.parametrize("node", [LikenessReference, AppearancePalette, LikenessAttentionMaps])
def test_the_front_end_keeps_the_seed(node):
    (seed,) = [i for i in node.GET_SCHEMA().inputs if i.id == "seed"]
    assert seed.as_dict()["control_after_generate"] == "fixed"
