"""`run.py demo --checkpoint`: files that it cannot load get one sentence before ComfyUI starts."""

from __future__ import annotations

import argparse
import pickle
import re

import pytest
import torch
from likeness.benchmarks import checkpoints
from likeness.demo import picture
from likeness.demo.launcher.files import Problem
from likeness.demo.own import command, graphs
from likeness.demo.own.checkpoint import PREFIX, open_checkpoint
from likeness.demo.own.lora import check_lora
from likeness.demo.own.photos import MOST, photos_in
from PIL import Image

SENTENCE = re.compile(r"^expected [^\n]*got [^\n]*: [^\n]*\.$")


def refused(run, *words: str) -> None:
    with pytest.raises(Problem) as caught:
        run()
    said = str(caught.value)
    assert SENTENCE.match(said) and all(word in said for word in words), said


class Code:
    def __reduce__(self):
        return print, ("this must not be printed",)


@pytest.fixture(scope="module")
def shapes():
    """Names and shapes of whole checkpoints by family, as files give them."""
    return {family: checkpoints.shapes(family) for family in (checkpoints.SD15, checkpoints.SDXL)}


@pytest.fixture
def opened(shapes, monkeypatch, tmp_path):
    """Opens a file that has these tensors."""

    def open_with(state):
        path = tmp_path / "model.safetensors"
        path.touch()
        monkeypatch.setattr("likeness.demo.own.checkpoint.read_shapes", lambda _path, _option: dict(state))
        return open_checkpoint(path)

    return open_with


@pytest.mark.parametrize(("family", "name", "side"), [("sd15", "SD 1.x", 512), ("sdxl", "SDXL", 1024)])
def test_a_whole_checkpoint_is_known_by_its_names(shapes, opened, family, name, side):
    found = opened(shapes[family]).family
    assert (found.name, found.side) == (name, side)


@pytest.mark.parametrize(
    ("left_out", "words"),
    [("first_stage_model.", "a VAE"), ("cond_stage_model.", "a text encoder"), (PREFIX, "no U-Net")],
)
def test_a_checkpoint_without_a_part_is_refused(shapes, opened, left_out, words):
    refused(lambda: opened({k: v for k, v in shapes["sd15"].items() if not k.startswith(left_out)}), words)


def test_an_inpainting_checkpoint_is_refused(shapes, opened):
    first = f"{PREFIX}input_blocks.0.0.weight"
    refused(
        lambda: opened({**shapes["sd15"], first: torch.empty(320, 9, 3, 3, device="meta")}), "4 input channels", "9"
    )


def test_files_that_are_no_checkpoints_are_refused(tmp_path, capsys):
    refused(lambda: open_checkpoint(tmp_path / "none.safetensors"), "no such file")
    refused(lambda: open_checkpoint(tmp_path), "folder")
    for name, content in {"a.txt": b"", "a.safetensors": b"no", "a.ckpt": pickle.dumps({"state_dict": Code()})}.items():
        (tmp_path / name).write_bytes(content)
        refused(lambda path=tmp_path / name: open_checkpoint(path), name)
    assert "must not be printed" not in capsys.readouterr().out


def test_pickled_weights_are_read_as_weights(tmp_path):
    torch.save({"state_dict": {"a": torch.zeros(2)}}, tmp_path / "a.ckpt")
    refused(lambda: open_checkpoint(tmp_path / "a.ckpt"), "no U-Net")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_lora_belongs_to_its_own_family_alone(shapes, opened, family, monkeypatch, tmp_path):
    path = tmp_path / "lora.safetensors"
    path.touch()
    checkpoint = opened(shapes[family])
    for of in ("sd15", "sdxl"):
        lora = checkpoints.lora_shapes(of)
        monkeypatch.setattr("likeness.demo.own.lora.read_shapes", lambda _path, _option, lora=lora: lora)
        if of == family:
            check_lora(path, checkpoint)
        else:
            refused(lambda: check_lora(path, checkpoint), "another family")
    monkeypatch.setattr("likeness.demo.own.lora.read_shapes", lambda _path, _option: {"a.weight": torch.empty(2)})
    refused(lambda: check_lora(path, checkpoint), "no weights of one")


def test_a_folder_without_good_photographs_is_refused(tmp_path):
    refused(lambda: photos_in(tmp_path / "none"), "which is none")
    refused(lambda: photos_in(tmp_path), "got none")
    Image.new("RGB", (100, 80)).save(tmp_path / "b.jpg")
    assert [path.name for path in photos_in(tmp_path)] == ["b.jpg"]
    (tmp_path / "a.png").write_bytes((tmp_path / "b.jpg").read_bytes()[:300])
    refused(lambda: photos_in(tmp_path), "a.png")
    Image.new("RGB", (100, 8)).save(tmp_path / "a.png")
    refused(lambda: photos_in(tmp_path), "100x8", "a.png")
    for index in range(MOST + 2):
        Image.new("RGB", (64, 64)).save(tmp_path / f"a{index}.png")
    (tmp_path / "a.png").unlink()
    assert len(photos_in(tmp_path)) == MOST


def options(**given) -> argparse.Namespace:
    return argparse.Namespace(**{"method": None, "lora": None, **given})


def test_methods_that_need_a_lora_are_refused_without_one():
    assert command.chosen_methods(options()) == [graphs.PALETTE, graphs.JOINT]
    assert command.chosen_methods(options(lora="a")) == list(graphs.METHODS)
    refused(lambda: command.chosen_methods(options(method=[graphs.RETOUCH])), "--lora")


@pytest.mark.parametrize(
    ("prompt", "braced"),
    [
        (None, "a photo of {a dog} on the beach"),
        ("An old dog, a dog in a dogcart", "An old {dog}, a dog in a dogcart"),
        ("The dog in a dogcart", "{The dog} in a dogcart"),
        ("my small {dog}", "my small {dog}"),
    ],
)
def test_the_subject_of_the_prompt_is_put_in_braces(prompt, braced):
    assert command.in_braces(prompt, "dog") == braced


@pytest.mark.parametrize(
    "said", ["an owl", "an umbrella", "an uninhabited hut", "an hourglass", "a unicorn", "a ewe", "a one-eyed cat"]
)
def test_the_default_prompt_has_the_article_of_its_subject(said):
    assert command.in_braces(None, said.partition(" ")[2]) == f"a photo of {{{said}}} on the beach"


def test_a_prompt_without_the_subject_is_refused():
    refused(lambda: command.in_braces("a cat", "dog"), "'dog'")


FILES = ("--checkpoint", "x", "--photos", "x", "--subject", "dog")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--photos", "x"], "--checkpoint"),
        (["--prompt", "a photo of a dog"], "--checkpoint"),
        (["--checkpoint", "x"], "--photos"),
        ([*FILES, "--steps", "0"], "--steps"),
        ([*FILES, "--cfg", "nan"], "--cfg, got nan"),
        ([*FILES, "--cfg", "inf"], "--cfg, got inf"),
        ([*FILES, "--cfg", "-1"], "--cfg, got -1"),
    ],
)
def test_options_that_do_not_suffice_end_the_command(arguments, words):
    with pytest.raises(SystemExit, match=rf"^demo: expected .*{words}"):
        picture.main(arguments)
