"""References and palettes of pictures of any size, at the size that a model was trained on."""

import comfy.model_base
import pytest
import torch
from likeness.patching.features.fitting import fitted_size, reduced
from likeness.patching.features.pictures import references
from likeness.patching.features.references import NOISED, OWN_SIZE
from likeness.patching.host.families import training_resolution
from likeness.patching.host.family import Resolution
from likeness.patching.pick_and_draw.build_palette import Picture, _references
from likeness.patching.tinyland import model as tinyland
from likeness.tests.patching.tiny_models import conditioning, tiny_model


class Shrinks:
    """A VAE that averages, and remembers the sizes that it has seen."""

    def __init__(self):
        self.seen = []

    def encode(self, pixels):
        self.seen.append(tuple(pixels.shape[1:3]))
        small = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8)
        return torch.cat([small, small[:, :1]], 1)


SD1, SDXL = Resolution(64, 8), Resolution(128, 4)


@pytest.mark.parametrize(
    ("size", "resolution", "expected"),
    [
        ((378, 504), SD1, (56, 72)),  # a photograph of 4032 x 3024
        ((378, 504), SDXL, (112, 148)),
        ((64, 64), SD1, (64, 64)),
        ((16, 16), SD1, (64, 64)),
        ((112, 144), SDXL, (112, 144)),  # nearly the area: it stays
        ((63, 67), SD1, (63, 67)),
        ((4, 4000), SD1, (8, 512)),
    ],
)
def test_the_area_is_the_models_and_the_shape_the_pictures(size, resolution, expected):
    assert fitted_size(*size, resolution) == expected
    assert fitted_size(*size[::-1], resolution) == expected[::-1]


def test_each_family_has_its_resolution():
    model = tiny_model("sd2")
    assert [training_resolution(tiny_model(f), "Node") for f in ("sd1", "sdxl")] == [SD1, SDXL]
    assert training_resolution(model, "Node") == Resolution(96, 8)
    model.model.model_type, kept = comfy.model_base.ModelType.EPS, model.model.model_type
    try:
        assert training_resolution(model, "Node") == SD1
    finally:
        model.model.model_type = kept


@pytest.fixture
def photograph():
    image = torch.rand(1, 3024, 4032, 1).expand(-1, -1, -1, 3)
    mask = torch.zeros(1, 3024, 4032)
    mask[:, :, :2016] = 1
    return image, mask


def test_a_photograph_is_encoded_at_the_models_size_alone(photograph):
    model, vae = tiny_model("sd1"), Shrinks()
    made = references(photograph[0], vae, conditioning(model), NOISED, 0, photograph[1], fits=True)
    assert not vae.seen and "4032 x 3024" in str(made)
    (item,) = made.fitted(model, "Node").items
    assert vae.seen == [(448, 576)] and item.size == (56, 72)
    tokens = item.tokens((28, 36))
    assert tokens is not None and len(tokens) == 28 * 18
    (again,) = made.fitted(model, "Node").items
    assert vae.seen == [(448, 576)] and again.bank is item.bank is not made.items[0].bank
    (large,) = made.fitted(tiny_model("sdxl"), "Node").items
    assert large.size == (112, 148) and large.bank is not item.bank


def test_a_picture_of_the_demo_stays_as_it_is():
    model, vae = tinyland.load()[0], Shrinks()
    assert training_resolution(model, "Node") == Resolution(16, 4)
    image = torch.rand(1, 128, 128, 3)
    (plain,) = references(image, vae, conditioning(model), NOISED, 0).items
    (item,) = references(image, vae, conditioning(model), NOISED, 0, fits=True).fitted(model, "Node").items
    assert torch.equal(item.latent["samples"], plain.latent["samples"])


def test_a_picture_may_keep_its_own_size():
    model = tiny_model("sd1")
    (item,) = references(torch.rand(1, 80, 96, 3), Shrinks(), conditioning(model), NOISED, 0).items
    assert item.fitted(model, "Node") is item and item.size == (10, 12)


@pytest.mark.parametrize(("options", "expected"), [({}, (64, 64)), ({"size": OWN_SIZE}, (10, 10))])
def test_pictures_of_a_palette_are_fitted_too(options, expected):
    model = tiny_model("sd1")
    picture = Picture(text="", word="", threshold=0.3, image=torch.rand(1, 80, 80, 3), vae=Shrinks(), **options)
    (item,) = _references(model, picture, conditioning(model), source=NOISED, seed=0, weight=1.0, node="Node").items
    assert item.size == expected


def test_a_layout_has_the_size_of_the_latent():
    model = tiny_model("sd1")
    made = references(torch.rand(1, 300, 400, 3), Shrinks(), conditioning(model), NOISED, 0, fits=True).items[0]
    assert made.sized(6, 8, "Node").latent["samples"].shape[2:] == (6, 8)
    with pytest.raises(
        ValueError, match=r"^Node: expected a layout of the sampler's latent, 8 x 8, got a picture of 50 x"
    ):
        made.sized(8, 8, "Node")


def test_large_masks_are_reduced():
    mask = torch.zeros(1, 3024, 4032)
    mask[:, :1512] = 1
    small = reduced(mask, 2**16)
    assert small.shape == (1, 221, 295) and float(small[:, :110].min()) == 1 and float(small[:, 112:].max()) == 0
    assert reduced(small, 2**16) is small
