"""Photographs as files: every mode that Load Image opens, and one of 12 megapixels with a transparent background."""

import folder_paths
import pytest
import torch
from likeness.nodes import LikenessSubject
from likeness.patching.features.references import TRAINING_SIZE
from likeness.patching.subject.borrowing import reference_of
from likeness.tests.patching.pick_and_draw.guidance_runs import model_of
from likeness.tests.patching.subject.subjects import Averages, photo, prompt_of, subject_of
from PIL import Image

from nodes import LoadImage

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
MODES = {
    "1": "png",
    "L": "png",
    "LA": "png",
    "P": "png",
    "I;16": "png",
    "RGB": "webp",
    "RGBA": "png",
    "CMYK": "jpg",
}


def written(path, mode: str):
    """A picture of a mode, and two frames where its format has them."""
    gray = Image.linear_gradient("L").resize((70, 50))
    picture = gray.convert("I").point(lambda value: value * 257).convert("I;16") if mode == "I;16" else gray
    if mode == "P":
        picture = gray.convert("RGB").quantize(16)
        picture.info["transparency"] = 3
    elif mode != "I;16":
        picture = gray.convert(mode)
    more = {"save_all": True, "append_images": [picture.rotate(180)]} if mode == "RGB" else {}
    picture.save(path, **more)


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_of_every_mode_is_a_photograph(mode, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(folder_paths, "get_input_directory", lambda: str(tmp_path))
    name = f"photo.{MODES[mode]}"
    written(tmp_path / name, mode)
    image, mask = LoadImage().load_image(name)[:2]
    subject = LikenessSubject.execute({"image0": image}, {"mask0": 1 - mask} if mode in ("LA", "P", "RGBA") else {})
    (photos,) = subject.args[0].photos
    assert photos.images.shape == (1 + (mode == "RGB"), 50, 70, 3)
    assert float(photos.images.min()) >= 0 and float(photos.images.max()) <= 1
    # ComfyUI 0.18 opens gray pictures of 16 bits as white ones.
    assert float(photos.images.std()) > 0.2 or (mode == "I;16" and "image0 has a picture of one color" in caplog.text)


def test_a_picture_of_one_color_is_told(caplog):
    LikenessSubject.execute({"image0": photo(), "image1": torch.cat([photo(), torch.full((1, 128, 128, 3), 0.5)])})
    assert "image1 has a picture of one color" in caplog.text and "image0" not in caplog.text


def test_a_cut_out_of_12_megapixels_is_encoded_at_the_size_of_training():
    image, vae, model = photo(3, 300, 400, channels=4).repeat(1, 10, 10, 1), Averages(), model_of()
    image[..., 3] = 0
    image[:, 1000:2000, 1000:2000, 3] = 1
    subject = subject_of(image, photo(4, 97, 200, channels=1), area="whole picture", size=TRAINING_SIZE)
    large, small = reference_of(subject, model, vae, prompt_of()).fitted(model, "test").items
    assert vae.sizes == [(448, 576), (384, 768)]
    assert large.size == (56, 72) and small.size == (48, 96)
    assert large.mask is not None and large.mask.shape == (448, 576) and small.mask is None
    assert float(large.mask.float().mean()) == pytest.approx(1 / 12, rel=0.1)
    assert torch.isfinite(large.latent["samples"]).all()
