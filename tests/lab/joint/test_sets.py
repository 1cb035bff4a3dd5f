"""Folders of sets: their format, and building them from cut-out pictures and backgrounds."""

from __future__ import annotations

import numpy as np
import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.joint import command
from likeness.lab.joint.build_sets import build, compose, cut_out, find_backgrounds, find_subjects
from likeness.lab.joint.sets import find_sets, write_set
from likeness.patching.evaluation.placement import MOST_AREA
from PIL import Image

RED, BLUE = (255, 0, 0), (0, 0, 255)


def disc(size: int, radius: float) -> np.ndarray:
    """[size, size] uint8, 255 inside."""
    rows, columns = np.mgrid[:size, :size]
    return np.uint8(255) * ((rows - size / 2) ** 2 + (columns - size / 2) ** 2 < radius**2).astype(np.uint8)


@pytest.fixture
def collection(tmp_path):
    """Folders with a red disc on green, once with a mask and once with alpha, and two blue backgrounds, one with a
    text."""
    pictures, backgrounds = tmp_path / "pictures", tmp_path / "backgrounds"
    (pictures / "red_disc").mkdir(parents=True)
    backgrounds.mkdir()
    mask = disc(80, 30)
    image = Image.fromarray(np.where(mask[..., None] > 0, RED, (0, 255, 0)).astype(np.uint8))
    image.save(pictures / "red_disc" / "1.jpg", quality=100, subsampling=0)
    Image.fromarray(mask).save(pictures / "red_disc" / "1.mask.png")
    image.putalpha(Image.fromarray(mask))
    image.save(pictures / "red_disc" / "2.png")
    Image.new("RGB", (200, 90), BLUE).save(backgrounds / "sea.png")
    (backgrounds / "sea.txt").write_text("in the sea\n", encoding="utf-8")
    Image.new("RGB", (64, 300), (0, 0, 128)).save(backgrounds / "night.png")
    return pictures, backgrounds, tmp_path / "out"


def test_a_set_is_read_as_it_was_written(tmp_path):
    pictures = [np.full((8, 8, 3), value, np.uint8) for value in (10, 200, 90)]
    write_set(tmp_path / "set.png", pictures, ["a mug", "", "a mug, on a table"])
    (found,) = find_sets(tmp_path)
    assert found.members == 3 and found.captions == ("a mug", "", "a mug, on a table")
    assert np.array_equal(found.pictures(8), np.stack(pictures))
    assert found.pictures(16).shape == (3, 16, 16, 3) and abs(int(found.pictures(16)[1, 8, 8, 0]) - 200) <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["set.png", "set.txt"]


def test_folders_that_are_no_sets_are_refused(tmp_path):
    def refused(sentence: str, folder=tmp_path):
        with pytest.raises(Problem, match=sentence):
            find_sets(folder)

    nothing = r"expected sets \(.*\) in .*, got none: give --sets a folder that holds some"
    refused(nothing)
    refused(nothing, tmp_path / "missing")
    (tmp_path / "a.png").write_bytes(b"no picture")
    refused(r"expected a picture in .*a.png, got an unreadable file: replace or remove it")
    Image.new("RGB", (8, 12)).save(tmp_path / "a.png")
    refused(r"expected a height that is a multiple of the width, .*, got 8 x 12 in .*a.png: crop or remove it")
    Image.new("RGB", (8, 4)).save(tmp_path / "a.png")
    refused(r"expected a height that is a multiple of the width, .*, got 8 x 4 in .*a.png: crop or remove it")
    Image.new("RGB", (8, 16)).save(tmp_path / "a.png")
    refused(r"expected captions in .*a.txt, got no such file: add it, or remove a.png")
    (tmp_path / "a.txt").write_text("one<|split|>two<|split|>three")
    refused(
        r"expected 2 captions separated by <\|split\|> in .*a.txt, got 3: write one for each square member of a.png"
    )


def test_sets_are_built_and_the_same_again(collection):
    pictures, backgrounds, out = collection
    arguments = ["sets", "--pictures", str(pictures), "--backgrounds", str(backgrounds), "--count", "6", "--size", "64"]
    command.main([*arguments, "--out", str(out)])
    sets = find_sets(out)
    assert len(sets) == 6 and {s.members for s in sets} <= {2, 3, 4} and len({s.members for s in sets}) > 1
    shown = set()
    for one in sets:
        for member, text in zip(one.pictures(64), one.captions, strict=True):
            blue = 255 if text == "a photo of a red disc in the sea" else 128
            assert blue == 255 or text == "a photo of a red disc"
            behind = (np.abs(member.astype(int) - (0, 0, blue)) < 8).all(-1)
            red = (np.abs(member.astype(int) - RED) < 40).all(-1)
            assert 0.08 < red.mean() < 0.42 and (behind | red).mean() > 0.8
            assert (member[..., 1] < 60).all()  # nothing of what was around the subject
            shown.add(round(float(np.argwhere(red).mean(0)[1])))
    assert len(shown) > 5  # wherever they were pasted
    assert {len(set(s.captions)) for s in sets if s.members == 2} <= {
        2
    }  # different places, as long as there are enough
    again, other = out.with_name("again"), out.with_name("other")
    command.main([*arguments, "--out", str(again)])
    command.main([*arguments, "--out", str(other), "--seed", "1"])
    named = sorted(p.name for p in out.iterdir())
    assert named == sorted(p.name for p in again.iterdir())
    assert all((out / name).read_bytes() == (again / name).read_bytes() for name in named)
    assert any((out / name).read_bytes() != (other / name).read_bytes() for name in named if (other / name).exists())


def test_captions_follow_the_template(collection):
    pictures, backgrounds, out = collection
    build(pictures, backgrounds, out, 1, 64, (2,), 0, "{name}, seen")
    assert set(find_sets(out)[0].captions) == {"red disc, seen in the sea", "red disc, seen"}


class Fixed:
    """Generator that always draws the largest value."""

    def uniform(self, _low, high):
        return high

    def randint(self, _low, high):
        return high


def test_a_subject_covers_as_much_as_was_drawn_or_as_fits():
    background = Image.new("RGB", (100, 100))

    def covered(alpha: np.ndarray) -> float:
        cut = Image.fromarray(np.full((*alpha.shape, 3), 255, np.uint8))
        cut.putalpha(Image.fromarray(alpha))
        made = compose(cut, background, Fixed())  # pyright: ignore[reportArgumentType]
        return float((np.asarray(made)[..., 0] > 127).mean())

    assert covered(np.full((30, 30), 255, np.uint8)) == pytest.approx(MOST_AREA, abs=0.02)
    assert covered(disc(60, 29)) == pytest.approx(MOST_AREA, abs=0.02)
    assert covered(np.full((5, 50), 255, np.uint8)) == pytest.approx(0.1, abs=0.01)  # as wide as the picture


def test_collections_that_lack_something_are_refused(collection, tmp_path):
    pictures, backgrounds, _out = collection
    first = pictures / "red_disc" / "1.jpg"

    def refused(call, argument, sentence: str):
        with pytest.raises(Problem, match=sentence):
            call(argument)

    for empty in (backgrounds, tmp_path / "missing"):
        refused(
            find_subjects,
            empty,
            r"expected a sub-folder of pictures for each subject in .*, got none: give --pictures a folder",
        )
    refused(
        find_backgrounds, pictures, r"expected pictures in .*, got none: give --backgrounds a folder that holds some"
    )
    mask = first.with_name("1.mask.png")
    Image.new("L", (80, 40), 255).save(mask)
    refused(cut_out, first, r"expected a mask of \(80, 80\) in .*, the size of 1.jpg, got \(80, 40\): scale it")
    Image.new("L", (80, 80), 0).save(mask)
    refused(cut_out, first, r"expected a subject in the mask of .*, got an empty one: paint the subject white")
    mask.unlink()
    refused(
        cut_out, first, r"expected a mask 1.mask.png beside .*1.jpg, or an alpha channel in it, got neither: add one"
    )
    first.write_bytes(b"no picture")
    refused(cut_out, first, r"expected a picture in .*1.jpg, got an unreadable file: replace or remove it")


JOINT = ["joint", "--sets", "s", "--checkpoint", "c", "--out", "o"]
SETS = ["sets", "--pictures", "p", "--backgrounds", "b", "--out", "o"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["judge", "--sets", "s"], "expected --sets with the part joint alone, got the part judge: leave --sets out."),
        (["--out", "o"], "expected --out with the part joint and sets alone, got the part all: leave --out out."),
        (
            ["joint", "--count", "3"],
            "expected --count with the part sets alone, got the part joint: leave --count out.",
        ),
        (
            [*SETS, "--loss-on", "all"],
            "expected --loss-on with the part joint alone, got the part sets: leave --loss-on out.",
        ),
        (
            [*SETS, "--steps", "3"],
            "expected --steps with a part that trains, got the part sets: use --count for the number of sets.",
        ),
        (SETS[:-2], "expected --pictures, --backgrounds, --out, got no --out: add it."),
        (JOINT[:3], "expected --sets, --checkpoint, --out, got no --checkpoint: add it."),
        (
            ["joint", "--batch", "3"],
            "expected --batch together with --sets, got no --sets: add it, or leave --batch out.",
        ),
        ([*JOINT, "--resolution", "32"], "expected --resolution of at least 64, got 32: raise it."),
        ([*JOINT, "--resolution", "500"], "expected a --resolution that is a multiple of 64, got 500: use 448."),
        ([*JOINT, "--steps", "0"], "expected --steps of at least 1, got 0: raise it."),
        ([*JOINT, "--set-sizes", "2,0"], "expected --set-sizes of at least 1, got 0: leave it out."),
        ([*JOINT, "--learning-rate", "0"], "expected a --learning-rate above 0, got 0: use 1e-5."),
        ([*JOINT, "--text-dropout", "1.5"], "expected a --text-dropout between 0 and 1, got 1.5: use 0.1."),
        (
            [*SETS, "--template", "a mug"],
            "expected {name} in --template, got 'a mug': write it where the subject's name belongs.",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_options_that_do_not_fit_are_refused(arguments, sentence):
    with pytest.raises(SystemExit, match=r"^run\.py train: ") as raised:
        command.main(arguments)
    assert str(raised.value) == f"run.py train: {sentence}"


def test_set_sizes_that_are_no_numbers_are_refused(capsys):
    with pytest.raises(SystemExit):
        command.main([*JOINT, "--set-sizes", "two"])
    assert "expected numbers separated by commas, such as 2,3,4, got 'two'" in capsys.readouterr().err
