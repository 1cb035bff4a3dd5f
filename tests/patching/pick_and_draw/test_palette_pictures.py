"""Pictures of a palette: sizes, masks, captions and previews."""

import pytest
import torch
from likeness.patching.host.window import Window
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    CAPTION,
    encoded,
    guided,
    made,
    model_of,
    palette,
    recorded,
    run,
)

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


class Averages:
    """A VAE that only makes pictures smaller."""

    def encode(self, pixels):
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], 1)

    def decode(self, samples):
        return torch.nn.functional.interpolate(samples[:, :3], scale_factor=8).movedim(1, -1)


def test_a_mask_is_of_the_picture_as_it_was_given():
    with pytest.raises(ValueError, match="expected a mask of the picture's size, 256 x 256, got one of 100 x 100"):
        made(model_of(), latent=None, image=torch.rand(1, 256, 256, 3), vae=Averages(), mask=torch.ones(1, 100, 100))


def test_the_mask_comes_from_the_words():
    model = model_of()
    found = made(model, mask=None, threshold=0.5)
    assert found.mask.shape[0] == 1 and set(found.mask.unique().tolist()) == {0.0, 1.0}
    more = made(model, mask=None, threshold=0.2).mask
    assert bool((more >= found.mask).all()) and more.sum() > found.mask.sum()
    with pytest.raises(ValueError, match="where the map of 'cat' is above threshold 1, got nothing; lower threshold"):
        made(model, mask=None, threshold=1.0)


def test_the_mask_is_looked_for_without_the_packs_other_patches():
    model = model_of()
    expected = made(model, mask=None).mask
    guided_model, _ = guided(model, palette(model), recorded())
    torch.testing.assert_close(made(guided_model, mask=None).mask, expected)


def test_the_conditioning_stands_for_the_caption():
    model = model_of()
    same, other = (run(guided(model, palette(model, conditioning=encoded(text)))[0]) for text in (CAPTION, "a chair"))
    assert torch.equal(same, run(guided(model, palette(model))[0]))
    assert not torch.equal(same, other)


def test_the_preview_shows_picture_mask_and_features():
    found = made(model_of())
    assert found.preview.shape[0] == 1 and found.preview.shape[3] == 3
    assert float(found.preview.min()) >= 0 and float(found.preview.max()) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.zeros(1, 128, 128)}, "expected a mask with the subject in it for each of 1 pictures"),
        ({"latent": None}, "expected a picture, as image with vae or as latent, got neither"),
        ({"word": "dog", "mask": None}, "expected a word of the prompt"),
        ({"blocks": ""}, "expected at least one block, got none; write paper into blocks"),
        ({"blocks": "output99"}, "output99"),
        ({"window": Window(0.5, 0.5)}, "expected start_percent below end_percent"),
        ({"map_blocks": "", "mask": None}, "expected at least one block, got none; write paper into map_blocks"),
    ],
)
def test_a_palette_refuses(changes, message):
    model = model_of()
    with pytest.raises(ValueError, match=r"^Appearance Palette: ") as failure:
        made(model, **changes)
    assert message in str(failure.value) and "\n" not in str(failure.value)
