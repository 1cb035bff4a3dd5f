"""`run.py demo` in a real ComfyUI, from its command line to its files, for one subject."""

import contextlib
import json

import numpy as np
from likeness.demo import picture
from likeness.demo.world.references import strip
from likeness.demo.world.subjects import SUBJECTS
from PIL import Image


def test_the_demo_makes_its_picture_and_report(host, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(picture, "Host", lambda _comfyui: contextlib.nullcontext(host))  # the one that runs already
    monkeypatch.setattr(picture, "SCENES", picture.SCENES[:1])
    picture.main(["--output", str(tmp_path)])

    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    titles = [column.title for column in picture.COLUMNS]
    assert list(report["mean"]) == titles and [list(row) for row in report["rows"]] == [titles]
    for numbers in report["mean"].values():
        assert numbers.keys() == {"identity", "prompt", "layout"}
        # Three pictures: a joint set reads .69 on one processor and over .7 on another; without a method, .41.
        assert 0.6 < numbers["identity"] <= 1 and 0.6 < numbers["prompt"] <= 1, report

    with Image.open(tmp_path / "picture.png") as image:
        pixels = np.asarray(image)
    first = strip(SUBJECTS[picture.SCENES[0][0]])[:, :128]
    assert sum((pixels[y : y + 128, 24:152] == first).all() for y in range(len(pixels) - 128)) == 1
    said = capsys.readouterr().out
    assert "picture.png" in said and "report.json" in said and all(title in said for title in titles)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["picture.png", "report.json"]
