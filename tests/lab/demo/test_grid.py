"""The demo's scenes on a farm: what is asked for, what is kept, and the picture of them."""

import argparse
import json
from collections import Counter

import numpy as np
import pytest
from likeness.demo import picture
from likeness.demo.launcher.client import Failed
from likeness.demo.world.scene import render
from likeness.demo.world.subjects import SUBJECTS
from likeness.lab.demo import command, grid
from likeness.lab.farm import options, strips
from likeness.lab.farm.crew import Threads
from likeness.lab.farm.records import Records
from likeness.lab.farm.worker import Worker
from likeness.tests.lab.farm.stand_in import png_of


class Drawn:
    """Server that shows the subject's own pictures at every node."""

    def __init__(self, fails=False):
        self.asked, self.fails = [], fails

    def start(self):
        pass

    stop = restart = start

    def about(self):
        return {"device": "none"}

    def lend(self, name, content):
        raise AssertionError("the demo has no input files")

    def draw(self, graph, output, timeout):
        if self.fails:
            raise Failed("1", "LikenessDemoModel", "expected weights")
        self.asked.append(output)
        name = next(n["inputs"]["subject"] for n in graph.values() if n["class_type"] == "LikenessDemoSubject")
        shown = [png_of(render(scene).image) for scene in SUBJECTS[name].training_scenes()[:3]]
        assert strips.is_strip(output)
        return strips.joined([shown for _ in strips.nodes_of(output)])


@pytest.fixture
def servers(monkeypatch):
    made = []

    def crew(chosen, *_arguments, **_named):
        made[:] = [Drawn() for _ in range(chosen.workers or 1)]
        return Threads([Worker(server) for server in made])

    monkeypatch.setattr(options, "crew", crew)
    return made


def chosen(*arguments):
    parser = argparse.ArgumentParser()
    options.add(parser)
    return parser.parse_args(arguments)


def test_every_subject_is_drawn_elsewhere():
    assert Counter(name for name, _ in grid.FULL) == dict.fromkeys(grid.SUBJECTS_SHOWN, grid.SCENES_SHOWN)
    assert len({*grid.FULL}) == len(grid.FULL)
    assert all(place != SUBJECTS[name].place and place in picture.PLACE_PHRASES for name, place in grid.FULL)


def test_two_workers_write_what_one_writes_and_a_second_run_draws_what_is_missing(servers, tmp_path, capsys):
    for workers in ("1", "2"):
        grid.run(tmp_path / workers, picture.SCENES, chosen("--workers", workers))
    one, two = ((tmp_path / workers / "picture.png").read_bytes() for workers in ("1", "2"))
    assert one == two and len(servers) == 2
    rows = [json.loads((tmp_path / n / "report.json").read_text(encoding="utf-8"))["rows"] for n in ("1", "2")]
    assert rows[0] == rows[1] and len(rows[0]) == len(picture.SCENES)
    Records(tmp_path / "2").picture("jedi/taxi/city").unlink()
    grid.run(tmp_path / "2", picture.SCENES, chosen())
    assert "6 runs: 5 finished, 1 to draw." in capsys.readouterr().out
    assert [server.asked for server in servers] == [[strips.strip_of(picture.nodes()["jedi"])]]
    assert (tmp_path / "2" / "picture.png").read_bytes() == one


def test_a_strip_keeps_every_picture_of_every_node():
    pictures = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    found = strips.parted(strips.joined([[png_of(one) for one in pictures[:2]], [png_of(one) for one in pictures[2:]]]))
    assert [len(shown) for shown in found] == [2, 3] and (np.concatenate(found) == pictures).all()


def test_a_failed_workflow_is_one_sentence_and_no_picture(monkeypatch, tmp_path):
    monkeypatch.setattr(options, "crew", lambda *_a, **_n: Threads([Worker(Drawn(fails=True))]))
    with pytest.raises(SystemExit, match=r"^demo: LikenessDemoModel .*: expected weights"):
        command.main(["--workers", "1", "--output", str(tmp_path)])
    assert not (tmp_path / "picture.png").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--full", "--checkpoint", "a.safetensors"], "leave your own files out"),
        (["--workers", "0"], "--workers is 0, expected 1 or more"),
        (["--per-gpu", "2"], "--per-gpu shares the GPUs that Ray finds"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(arguments, sentence):
    with pytest.raises(SystemExit, match=sentence):
        command.main(arguments)


def test_without_these_options_the_demo_is_the_old_one(monkeypatch):
    ran = []
    monkeypatch.setattr(picture, "run", ran.append)
    command.main(["--output", "here"])
    assert len(ran) == 1 and not picture.has_own_files(ran[0])
