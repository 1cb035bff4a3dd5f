"""References of any size and their captions become members of a set."""

from dataclasses import replace

import pytest
import torch
from likeness.patching.features.pictures import references
from likeness.patching.jedi.members import fitted
from likeness.tests.patching.jedi.joint_runs import Captions, guider_of, reference, run
from likeness.tests.patching.tiny_models import conditioning, latent, tiny_model


class Encoder:
    """A VAE whose latents are mean colors and brightness of 8 x 8 pixels; it records the sizes it encodes."""

    def __init__(self):
        self.sizes = []

    def encode(self, image):
        self.sizes.append(tuple(image.shape[1:3]))
        height, width = (n // 8 * 8 for n in image.shape[1:3])
        top, left = ((n - m) // 2 for n, m in zip(image.shape[1:3], (height, width), strict=True))
        cells = (
            image[:, top : top + height, left : left + width].unflatten(1, (-1, 8)).unflatten(3, (-1, 8)).mean((2, 4))
        )
        return torch.cat([cells, cells.mean(-1, keepdim=True)], -1).movedim(-1, 1) + 0.1


def picture(model, height, width, mask=None, encoder=None):
    image = torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(4))
    return references(
        image, encoder or Encoder(), conditioning(model), "noised", seed=0, mask=mask, weight=1.0, node="test"
    ).items[0]


def test_a_reference_of_the_same_size_is_taken_as_it_is():
    item = picture(tiny_model("sd1"), 64, 64)
    member = fitted(item, 8, 8, "test")
    assert member.samples is item.latent["samples"] and member.tokens((4, 4)) is None


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [(128, 64, slice(0, 8), slice(2, 6)), (40, 80, slice(2, 6), slice(0, 8)), (37, 51, slice(1, 6), slice(0, 8))],
)
def test_a_picture_of_another_size_is_scaled_and_only_it_is_looked_at(height, width, rows, columns):
    encoder = Encoder()
    item = picture(tiny_model("sd1"), height, width, encoder=encoder)
    member = fitted(item, 8, 8, "test")
    assert member.samples.shape == (1, 4, 8, 8)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[rows, columns] = True
    assert member.tokens((8, 8)).tolist() == inside.flatten().nonzero()[:, 0].tolist()
    assert fitted(item, 8, 8, "test") is member and len(encoder.sizes) == 2, "encoded once per size"


def test_a_square_picture_of_another_size_is_looked_at_as_a_whole():
    assert fitted(picture(tiny_model("sd1"), 96, 96), 8, 8, "test").tokens((8, 8)) is None


def test_the_mask_goes_where_the_picture_goes():
    mask = torch.zeros(1, 128, 64)
    mask[:, 64:, :] = 1
    item = picture(tiny_model("sd1"), 128, 64, mask)
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[4:, 2:6] = True
    assert fitted(item, 8, 8, "test").tokens((8, 8)).tolist() == expected.flatten().nonzero()[:, 0].tolist()
    assert fitted(item, 16, 8, "test").tokens((16, 8)).tolist() == list(range(64, 128))


def test_a_small_latent_is_padded():
    member = fitted(reference(tiny_model("sd1"), height=4, width=6), 8, 8, "test")
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 1:7] = True
    assert member.tokens((8, 8)).tolist() == expected.flatten().nonzero()[:, 0].tolist()


def test_references_and_pictures_of_many_sizes(model):
    references = [reference(model, 20, 6, 8), picture(model, 40, 90), reference(model, 22, 8, 9)]
    assert run(model, references=references, height=8, width=9).shape == (2, 4, 8, 9)


def test_a_latent_is_as_many_references_as_it_has_pictures(model):
    samples = latent(2)
    caption = conditioning(model, seed=60)
    guider = guider_of(model, references=samples, caption=caption)
    assert [r.conditioning for r in guider._references] == [caption, caption]
    made = run(model, references=samples, caption=caption)
    first = run(model, references={"samples": samples["samples"][:1]}, caption=caption)
    assert made.shape == (2, 4, 8, 8) and not torch.allclose(made, first, atol=1e-3)


def test_a_caption_for_each_reference(model):
    references, texts = (
        [reference(model, 20), reference(model, 21)],
        [conditioning(model, seed=60), conditioning(model, seed=61)],
    )
    guider = guider_of(model, references=references, caption=Captions(texts))
    assert [r.conditioning for r in guider._references] == texts


def test_references_without_their_picture_are_known_by_their_latent():
    item = replace(picture(tiny_model("sd1"), 96, 64), image=None, vae=None)
    with pytest.raises(ValueError, match="expected references that fit into the latent"):
        fitted(item, 8, 8, "Joint Image Sampler")
