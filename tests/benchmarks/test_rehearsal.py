"""Rehearsal on checkpoints of true size: which graphs it runs, how it shortens them, and what counts as a fault."""

from __future__ import annotations

import io
import mmap
import os

import pytest
from likeness.benchmarks import photos, rehearsal, rehearsal_prompts
from likeness.benchmarks.checkpoints import SD15, SD35, SDXL
from likeness.benchmarks.rehearsal import Outcome, Outcomes, PeakRam
from likeness.benchmarks.transformer_files import KREA2
from PIL import Image

PASSED = Outcome(1.0, 2.0, "", "said")


class Pictures:
    """A client whose server has these pictures."""

    def __init__(self, **pictures: Image.Image):
        self.pictures = pictures

    def image(self, record: dict[str, str]) -> bytes:
        written = io.BytesIO()
        self.pictures[record["filename"]].save(written, "PNG")
        return written.getvalue()


def faults(**pictures: Image.Image) -> list[str]:
    return list(rehearsal._faults(Pictures(**pictures), [{"filename": name} for name in pictures]))  # pyright: ignore[reportArgumentType]


def test_a_picture_of_one_color_and_none_at_all_are_faults():
    plain, noise = Image.new("RGB", (8, 8), "black"), Image.effect_noise((8, 8), 50)
    assert faults(a=noise) == []
    assert faults(a=noise, b=plain) == ["b is of one color"]
    assert faults() == ["made no picture"]


@pytest.mark.parametrize(
    ("line", "tells"),
    [
        ("lora key not loaded: lora_unet_x.alpha", True),
        ("unet missing: ['out.2.bias']", True),
        ("left over keys in diffusion model: ['x']", True),
        ("Requested to load BaseModel", False),
        ("Failed to import comfy_kitchen, which is missing", False),
    ],
)
def test_lines_of_the_log_that_tell_of_wrong_weights(line, tells):
    assert bool(rehearsal._COMPLAINTS.match(line) and not rehearsal._HARMLESS.search(line)) == tells


def test_a_workflow_that_passed_is_not_run_again(tmp_path, monkeypatch):
    kept, prompt = Outcomes(tmp_path / "outcomes.json"), {"1": {"class_type": "A", "inputs": {"steps": 2}}}
    other = {"1": {"class_type": "A", "inputs": {"steps": 3}}}
    kept.add("a", prompt, PASSED)
    kept.add("b", prompt, Outcome(1.0, None, "made no picture", ""))
    assert kept.get("a", prompt) == PASSED
    assert kept.get("a", other) is None and kept.get("b", prompt) is None
    monkeypatch.setattr(rehearsal.gpu, "code", lambda: "changed")
    assert kept.get("a", prompt) is None


def test_memory_that_a_system_does_not_tell_is_unknown(tmp_path, monkeypatch):
    assert PeakRam(1, tmp_path).peak() is None
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "clear_refs").mkdir()  # cannot be written
    (tmp_path / "1" / "status").write_text("VmHWM:  12 kB\n")
    assert PeakRam(1, tmp_path).peak() is None
    outcomes = {"a": Outcome(1.0, None, "", ""), "b": PASSED}
    monkeypatch.setattr(rehearsal, "rehearse", lambda _family, _prompts: outcomes.items())
    made = rehearsal.run(quick=True)
    assert ["peak GiB" in row for row in made.rows] == [False, True]
    assert rehearsal.UNKNOWN in made.notes and made.figures == {"sd15_passed": 1.0}


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system does not tell it")
def test_memory_is_that_since_the_start():
    with mmap.mmap(-1, 2**26) as held:
        held.write(bytes([1]) * 2**26)
        before = PeakRam(os.getpid()).peak()
    peak = PeakRam(os.getpid()).peak()
    assert before and peak and 0 < peak < before - 2**25


@pytest.mark.parametrize("family", [SD15, SDXL])
def test_every_shipped_workflow_of_a_family_is_run(family):
    found = rehearsal_prompts.workflows(family)
    assert sorted(name[0] for name in found) == [*"123456789"]
    assert all("(SD 1.5)" in name if family == SD15 else "(SDXL)" in name for name in found)
    wanted = set().union(*map(rehearsal_prompts.pictures, found.values()))
    assert wanted == {*photos.NAMES, "place.png"}


@pytest.mark.parametrize("family", [SD15, SDXL])
def test_a_graph_is_shortened_for_a_cpu(family):
    for name, prompt in rehearsal_prompts.workflows(family).items():
        short = rehearsal_prompts.shortened(prompt, family)
        assert short.keys() == prompt.keys()
        for node, entry in short.items():
            inputs, whole = entry["inputs"], prompt[node]["inputs"]
            assert inputs.keys() == whole.keys(), name
            assert all(inputs[side] == 128 for side in ("width", "height") if side in inputs)
            assert all(inputs[most] <= 4 for most in ("steps", "inversion_steps", "batch_size") if most in inputs)
            assert all(inputs[key] == whole[key] for key in whole if "percent" in key or "strength" in key)
            assert inputs.get("size", "own size") == "own size"
            assert inputs.get("scheduler") != "ddim_uniform"
        assert prompt == rehearsal_prompts.workflows(family)[name], "the shipped graph stays"


def test_photographs_are_as_people_have_them(tmp_path):
    turned, transparent, large = (Image.open(path) for path in photos.write(tmp_path))
    assert turned.getexif()[0x0112] == 6 and turned.size == (217, 293)
    assert transparent.mode == "RGBA" and transparent.getchannel("A").getextrema() == (0, 255)
    assert large.size == (4000, 3000)
    assert all(max(Image.open(path).size) == 256 for path in photos.write(tmp_path, 256))


@pytest.mark.full
@pytest.mark.parametrize(("family", "name"), [(SD35, "96 SD 3.5 medium"), (KREA2, "92 Krea 2 Turbo")])
def test_one_photograph_becomes_a_picture_of_a_transformer(family, name):
    """Names and loaders are those of real files; the networks are narrow."""
    name = f"{name} - your photos in new scenes"
    ((found, outcome),) = rehearsal.rehearse(family, {name: rehearsal_prompts.workflows(family)[name]})
    assert found == name and not outcome.wrong


@pytest.mark.full
def test_one_photograph_becomes_a_picture_on_a_checkpoint_of_true_size(monkeypatch):
    monkeypatch.setattr(Outcomes, "get", lambda *_: None)  # a rehearsal that passed here before proves nothing now
    name = "2 Use one photo like IPAdapter, without training (SD 1.5)"
    ((found, outcome),) = rehearsal.rehearse(SD15, {name: rehearsal_prompts.workflows(SD15)[name]})
    assert found == name and not outcome.wrong
