"""Picture and report of the demo, with a fake client in place of the server."""

from __future__ import annotations

import io
import json
import urllib.error

import aiohttp
import numpy as np
import pytest
from likeness.demo import picture
from likeness.demo.launcher.client import Failed
from likeness.demo.world.scene import render
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.evaluation import judge
from PIL import Image

SHOWS = ("SaveImage", "PreviewImage")


class FakeClient:
    """Answers every node that shows or saves pictures with renders of the subject that the prompt asks for."""

    def __init__(self, error: Exception | None = None):
        self.error, self.prompts = error, []

    def run(self, prompt, _progress):
        if self.error:
            raise self.error
        self.prompts.append(prompt)
        name = next(n["inputs"]["subject"] for n in prompt.values() if n["class_type"] == "LikenessDemoSubject")
        return FakeResult(name, prompt)

    def image(self, record):
        scene = SUBJECTS[record["subject"]].training_scenes()[record["index"]]
        file = io.BytesIO()
        Image.fromarray(render(scene).image).save(file, format="PNG")
        return file.getvalue()


class FakeResult:
    def __init__(self, name, prompt):
        self.name, self.prompt = name, prompt

    def images(self, node):
        if self.prompt[node]["class_type"] not in SHOWS:
            return []
        return [{"subject": self.name, "index": i} for i in range(4)]


class FakeHost:
    client = FakeClient()

    def __init__(self, *_arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        return None


@pytest.fixture
def host(monkeypatch):
    monkeypatch.setattr(picture, "Host", FakeHost)
    monkeypatch.setattr(FakeHost, "client", FakeClient())
    return FakeHost


def source(prompt, node: str, kind: str) -> str:
    """Finds the node of a kind from which a node's pictures come, through the first inputs of the kinds in between."""
    passing = {"SaveImage": "images", "PreviewImage": "images", "VAEDecode": "samples"}
    while prompt[node]["class_type"] != kind:
        node = prompt[node]["inputs"][passing[prompt[node]["class_type"]]][0]
    return node


def test_the_columns_are_what_their_titles_say():
    prompts = {c.workflow: picture.prompt(c.workflow, "nemo", "sea") for c in (picture.REFERENCES, *picture.COLUMNS)}
    for column in (picture.REFERENCES, *picture.COLUMNS):
        assert prompts[column.workflow][column.node]["class_type"] in SHOWS
    references, (alone, blended, retouched, guided, joint) = picture.REFERENCES, picture.COLUMNS
    assert source(prompts[references.workflow], references.node, "LikenessDemoSubject")
    assert source(prompts[blended.workflow], blended.node, "StepBlendedSampler")
    assert source(prompts[joint.workflow], joint.node, "JointImageSampler")
    for column, patch in (
        (alone, "LikenessDemoSubject"),
        (retouched, "MultiSourceAttnSwap"),
        (guided, "UREMDGuidance"),
    ):
        prompt = prompts[column.workflow]
        model = prompt[source(prompt, column.node, "KSampler")]["inputs"]["model"][0]
        assert prompt[model]["class_type"] == patch, column.title


def test_writes_a_picture_and_a_report(host, tmp_path, capsys):
    picture.main(["--output", str(tmp_path)])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [len(report["rows"]), len(report["mean"])] == [len(picture.SCENES), len(picture.COLUMNS)]
    for numbers in report["mean"].values():
        assert numbers["identity"] > 0.9 and numbers["layout"] < 0.1  # the references themselves, in their one layout
    with Image.open(tmp_path / "picture.png") as image:
        pixels = np.asarray(image)
    assert pixels.shape[1] > 16 * 128 and pixels.shape[0] > len(picture.SCENES) * 128
    reference = render(SUBJECTS[picture.SCENES[0][0]].training_scenes()[0]).image
    corner = [(y, 24) for y in range(len(pixels) - 128) if (pixels[y : y + 128, 24:152] == reference).all()]
    assert len(corner) == 1
    assert not list(tmp_path.glob("*.tmp")) and "picture.png" in capsys.readouterr().out


def test_asks_for_every_scene_with_one_seed(host, tmp_path):
    picture.main(["--output", str(tmp_path)])
    asked = host.client.prompts
    named = [{n["inputs"]["subject"] for n in p.values() if n["class_type"] == "LikenessDemoSubject"} for p in asked]
    assert named == [
        {subject} for subject, _ in picture.SCENES for _ in ("layout_and_retouch", "pick_and_draw", "jedi")
    ]
    for (_, place), some in zip(picture.SCENES, (asked[:3], asked[3:]), strict=True):
        phrase = picture.PLACE_PHRASES[place]
        subjects = [next(n["inputs"] for n in p.values() if n["class_type"] == "LikenessDemoSubject") for p in some]
        assert [inputs["scene"] for inputs in subjects] == [
            phrase,
            phrase,
            "",
        ]  # jedi's scenes are in its list of prompts
        lists = [n["inputs"]["text"] for n in some[2].values() if n["class_type"] == "LikenessPromptList"]
        assert lists == ["\n".join([phrase] * picture.SEEDS)]
    assert {n["inputs"]["seed"] for p in asked for n in p.values() if "seed" in n["inputs"]} == {picture.SEED}


def test_a_failed_workflow_is_one_sentence_and_leaves_nothing(monkeypatch, host, tmp_path):
    monkeypatch.setattr(host, "client", FakeClient(Failed("1", "LikenessDemoModel", "expected weights")))
    with pytest.raises(SystemExit, match=r"demo: LikenessDemoModel .*: expected weights"):
        picture.main(["--output", str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("refused"), aiohttp.ClientError("closed"), TimeoutError("late")], ids=repr
)
def test_a_server_that_is_gone_is_one_sentence(monkeypatch, host, tmp_path, error):
    monkeypatch.setattr(host, "client", FakeClient(error))
    with pytest.raises(SystemExit, match=r"^demo: .*(refused|closed|late)"):
        picture.main(["--output", str(tmp_path / "new")])


@pytest.mark.parametrize("content", [None, b"half"])
def test_a_judge_that_cannot_be_read_is_said_before_the_server_starts(monkeypatch, host, tmp_path, content):
    path = tmp_path / "judge.safetensors"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setattr(judge, "WEIGHTS", path)
    with pytest.raises(SystemExit, match=r"^demo: judge: expected .*judge\.safetensors.* restore the pack's files\.$"):
        picture.main(["--output", str(tmp_path / "new")])
    assert not host.client.prompts
