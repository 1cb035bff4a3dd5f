"""The segmenter: its prompts, its checkpoints, and the files that it refuses."""

import comfy.utils
import numpy as np
import pytest
import torch
from likeness.patching.layout_and_retouch import segment, segmenter
from likeness.tests import tiny_segmenter
from safetensors.torch import save_file

VIT_B = segmenter.Sizes(width=768, depth=12, heads=12, global_blocks=(2, 5, 8, 11), tokens=64, patch=16)


def test_prompts_of_the_segmenter():
    images = torch.zeros(1, 64, 96, 3)
    heat = torch.zeros(1, 64, 96)
    heat[0, 10:20, 30:50], heat[0, 15, 40], heat[0, 50:60, 80:90] = 0.5, 1.0, 0.5
    (found,) = segment.prompts(images, heat, threshold=0.3, inside="1,2", outside="3,4", box="")
    assert found.box.tolist() == [30, 10, 50, 20]
    assert found.points.tolist() == [[1, 2], [3, 4], [40, 15]] and found.labels.tolist() == [1, 0, 1]
    (found,) = segment.prompts(images, None, threshold=0.3, inside="", outside="", box="1,2,30,40")
    assert found.box.tolist() == [1, 2, 30, 40] and len(found.points) == 0


@pytest.mark.parametrize(
    ("inside", "words"),
    [("", "which object"), ("1", "x,y"), ("a,b", "x,y"), ("1,2,3", "x,y"), ("999,1", "inside")],
)
def test_prompts_that_say_nothing(inside, words):
    with pytest.raises(ValueError, match=words):
        segment.prompts(torch.zeros(1, 64, 64, 3), None, threshold=0.3, inside=inside, outside="", box="")


@pytest.fixture
def sams(tmp_path, monkeypatch):
    monkeypatch.setitem(
        segment.folder_paths.folder_names_and_paths, "sams", ([str(tmp_path)], {".pth", ".safetensors"})
    )
    return tmp_path


class Code:
    def __reduce__(self):
        return (print, ("code ran",))


@pytest.mark.parametrize("content", ["code", "text", "other", "nothing"])
def test_checkpoints_that_are_none(sams, content, capsys):
    path = sams / "sam.pth"
    if content == "code":
        torch.save({"image_encoder.pos_embed": Code()}, path)
    elif content == "text":
        path.write_text("<html>not found</html>")
    elif content == "other":
        torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises((ValueError, FileNotFoundError), match="Segment the Subject: expected") as failure:
        segment.load("sam.pth")
    assert "code ran" not in capsys.readouterr().out
    assert content == "nothing" or "sam.pth" in str(failure.value)


@pytest.mark.parametrize(
    "sizes", [tiny_segmenter.SIZES, pytest.param(VIT_B, marks=pytest.mark.full)], ids=["tiny", "vit_b"]
)
def test_a_checkpoint_of_random_weights_segments(sams, sizes):
    pytest.importorskip("segment_anything")
    save_file(tiny_segmenter.state(sizes), sams / "sam.safetensors")
    image = torch.from_numpy(np.random.default_rng(0).random((1, 48, 80, 3), np.float32))
    model = segment.load("sam.safetensors")
    assert model.model.sam.image_encoder.img_size == sizes.pixels
    found = segment.segment(
        model, image, segment.prompts(image, None, threshold=0.3, inside="40,20", outside="", box="")
    )
    assert found.shape == (1, 48, 80) and set(found.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_published_checkpoints_give_the_network_of_their_authors(kind):
    """Layers, heads and windows are compared without weights: each network has up to 640 million of them."""
    registry = pytest.importorskip("segment_anything").sam_model_registry
    with torch.device("meta"):
        theirs = registry[kind]()
        found = segmenter.sizes(theirs.state_dict())
        assert found is not None
        ours = segmenter.build(found)
    assert kind != "vit_b" or found == VIT_B
    assert repr(ours) == repr(theirs) and ours.training == theirs.training
    for name, module in theirs.named_modules():
        mine, numbers = ours.get_submodule(name), (bool, int, float, tuple)
        facts = {key: value for key, value in vars(module).items() if isinstance(value, numbers)}
        assert facts == {key: value for key, value in vars(mine).items() if isinstance(value, numbers)}, name
    shapes = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == shapes


def test_load_torch_file_is_safe():
    """Our reading of .pth files rests on this parameter of the host."""
    assert "safe_load" in comfy.utils.load_torch_file.__code__.co_varnames
