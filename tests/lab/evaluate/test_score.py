"""Scores of drawn pictures by the demo's judge, and by tiny networks under the published names."""

import dataclasses
import json

import numpy as np
import pytest
from likeness.demo.launcher.files import Problem
from likeness.demo.world.scene import render
from likeness.demo.world.subjects import SUBJECTS
from likeness.lab.evaluate import embeddings, generate, outside, protocol, score, steps
from likeness.lab.evaluate.score import PHOTOS, Options
from likeness.lab.farm.records import Records
from likeness.lab.farm.task import Outcome
from likeness.patching.evaluation.similarity import copy_limit
from likeness.tests.lab.evaluate.crews import crew_of
from PIL import Image

COPY, OTHER = "lora", "vanilla"


@pytest.fixture
def drawn(make, fake_server):
    """Plan whose `lora` shows photos of the subject, and whose `vanilla` shows another subject in the wrong place."""
    (plan := make([OTHER, COPY], only=["nemo"])).write()
    steps.draw(plan, crew_of(fake_server()))
    paint(plan)
    return plan


def paint(plan) -> None:
    records = Records(plan.folder)
    for job in plan.jobs():
        name = job.subject if job.row == COPY else "amanita"
        path = records.picture(job.name)
        Image.fromarray(render(SUBJECTS[name].training_scenes()[job.seed % 4]).image).save(path)
        records.finish(generate.task(plan, job), Outcome(path.read_bytes(), facts={"seconds": 1.0}))


def scored(plan, **options):
    preset = options.pop("preset", plan.protocol)
    return score.read(score.run(plan, preset, options.pop("metrics", ()), Options(**options)))


def test_photos_are_close_and_count_as_copies(drawn):
    facts, found = scored(drawn)
    identity = found["judge-identity"]
    mean = {row: np.mean([s.value for s in identity if s.row == row]) for row in (COPY, OTHER, PHOTOS)}
    assert mean[COPY] > 0.95 and mean[PHOTOS] > 0.95 and mean[OTHER] < 0.6
    assert all(s.copied for s in identity if s.row == COPY) and not any(s.copied for s in identity if s.row == OTHER)
    assert len(identity) == 8 + 1 and {s.pairs for s in identity if s.row != PHOTOS} == {4}
    assert facts["networks"]["judge-identity"] == "tinyland-judge" and len(facts["map"]) == 8 + 4
    assert len(facts["centers"]) == 8


def test_a_single_photo_sets_no_limit_for_copies(drawn, monkeypatch):
    monkeypatch.setattr(score, "copy_limit", lambda photos: copy_limit(photos[:1]))
    _, found = scored(drawn)
    assert {s.copied for s in found["judge-identity"] if s.row != PHOTOS} == {None}


def test_a_prompt_is_right_when_class_and_place_are(drawn):
    values = [s.value for s in scored(drawn)[1]["judge-prompt"]]
    assert values == [0.0] * 8, "no picture shows the sea or the city"


def test_the_input_alone_or_left_out(make, drawn):
    every = {s: s for s in scored(drawn)[1]["judge-identity"]}
    alone = protocol.checked({**_unread(drawn), "compare": "input"}, "alone")
    for one in scored(drawn, preset=alone)[1]["judge-identity"]:
        if one.row == COPY:
            whole = next(s for s in every if (s.row, s.subject, s.seed, s.prompt) == _key(one))
            assert one.pairs == 1 and whole.value == pytest.approx((one.value + 3 * whole.others) / 4, abs=1e-5)


def _key(one):
    return one.row, one.subject, one.seed, one.prompt


def test_empty_masks_are_left_out_and_not_replaced(drawn, tmp_path):
    masks = tmp_path / "masks"
    names = [job.name for job in drawn.jobs()] + [f"{name}/{i}" for name in drawn.subjects for i in range(4)]
    for i, name in enumerate(names):
        (masks / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (64, 64), 0 if i < 3 else 255).save(masks / f"{name}.png")
    found = scored(drawn, masks=masks)[1]
    masked, whole = found["judge-identity-masked"], found["judge-identity"]
    values = {_key(s): s.value for s in whole}
    assert sum(np.isnan(s.value) for s in masked) == 3
    assert all(np.isnan(s.value) or s.value == pytest.approx(values[_key(s)], abs=1e-6) for s in masked)
    (masks / f"{names[5]}.png").unlink()
    with pytest.raises(Problem, match=r"There is no mask .*: make it, or leave the masked metrics out"):
        scored(drawn, masks=masks)


def test_a_picture_is_embedded_once(drawn, monkeypatch):
    counts = []
    original = score.JudgeEye.pictures

    def counted(self, pictures):
        counts.append(len(pictures))
        return original(self, pictures)

    monkeypatch.setattr(score.JudgeEye, "pictures", counted)
    first = scored(drawn, metrics=["judge-identity"])[1]
    assert sum(counts) == 8, "4 photos of each of two subjects, drawn several times"
    assert scored(drawn, metrics=["judge-identity"])[1] == first and sum(counts) == 8
    (path,) = (drawn.folder / "embeddings").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    assert scored(drawn, metrics=["judge-identity"])[1] == first and sum(counts) == 16


def test_embeddings_are_saved_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 2)
    pictures = {str(i): lambda: Image.new("RGB", (2, 2)) for i in range(5)}
    calls = []

    def embed(block):
        calls.append(len(block))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return np.full((len(block), 3), len(calls), np.float32)

    with pytest.raises(KeyboardInterrupt):
        embeddings.Embeddings(tmp_path, "one").of(pictures, embed)
    found = embeddings.Embeddings(tmp_path, "one").of(pictures, embed)
    assert calls == [2, 2, 2, 1] and [found[name][0] for name in pictures] == [1, 1, 3, 3, 4]


def test_saving_embeddings_takes_the_same_for_every_block(tmp_path, monkeypatch):
    monkeypatch.setattr(embeddings, "BLOCK", 2)
    sizes, original = [], embeddings.whole
    monkeypatch.setattr(
        embeddings, "whole", lambda path, content: (sizes.append(len(content)), original(path, content))
    )
    pictures = {str(i): lambda: Image.new("RGB", (2, 2)) for i in range(8)}
    embeddings.Embeddings(tmp_path, "one").of(pictures, lambda block: np.zeros((len(block), 300), np.float32))
    assert len(sizes) == 4 and len(set(sizes)) == 1
    assert len(embeddings.Embeddings(tmp_path, "one").of(pictures, lambda _: pytest.fail("again"))) == 8


def test_a_mask_is_made_once_for_all_metrics(drawn, monkeypatch):
    counts, original = [], score.JudgeEye.mask
    monkeypatch.setattr(score.JudgeEye, "mask", lambda self, picture: (counts.append(1), original(self, picture))[1])
    metrics = {**drawn.protocol.metrics, "cropped": {**drawn.protocol.metrics["judge-identity-masked"]}}
    metrics["cropped"]["mask"] = {"fill": "white", "crop": True}
    facts, _ = scored(drawn, preset=protocol.checked({**_unread(drawn), "metrics": metrics}, "two"))
    assert len(facts["centers"]) == 8 and len(counts) == 8, "4 photos of each of two subjects"


def _unread(plan) -> dict:
    """Facts of the plan's protocol as its file has them."""
    prompts = {key: value for key, value in plan.protocol.facts["prompts"].items() if key != "texts"}
    return {**plan.protocol.facts, "prompts": prompts}


def test_clip_t_follows_the_rule_of_the_protocol(drawn, monkeypatch):
    texts = []

    class Eye:
        key = "clip"

        def pictures(self, pictures):
            return np.tile(np.array([[1.0, 0.0]], np.float32), (len(pictures), 1))

        def texts(self, wanted):
            texts.extend(wanted)
            return np.array([[0.6, 0.8]] * len(wanted), np.float32)

    monkeypatch.setattr(score.eyes, "load", lambda *_: Eye())
    for rule, expected in (
        ("class", "a photo of a fish in the city"),
        ("raw", "a photo of a sks fish in the city"),
        ("braces", "a photo of a {} in the city"),
        ("background", "in the city"),
    ):
        facts = {"kind": "text", "model": "clip-vit-base-patch32", "geometry": "clip-224", "text": rule}
        preset = protocol.checked({**_unread(drawn), "metrics": {"clip-t": facts}, "axes": ["clip-t"] * 2}, rule)
        values = [s.value for s in scored(drawn, preset=preset)[1]["clip-t"]]
        assert values == pytest.approx([0.6] * 8) and expected in texts
        texts.clear()


def test_what_cannot_be_scored_is_one_sentence(drawn, make, tmp_path, monkeypatch):
    monkeypatch.setattr(score.eyes, "folders", lambda named: [named or tmp_path])
    monkeypatch.setattr(outside.importlib.util, "find_spec", lambda name: None)
    for preset, metrics, sentence in (
        (drawn.protocol, ["dino"], "tinyland has no metric dino: use judge-identity"),
        (protocol.load("dreambooth"), [], r"the weights dino-vits16 \(87 MB, .*, or name another folder with"),
        (protocol.load("layout-and-retouch-diversity"), [], "needs torch-fidelity, which is not installed"),
        (protocol.load("vico"), ["image-reward"], "ImageReward needs a Python of its own"),
    ):
        with pytest.raises(Problem, match=sentence):
            score.run(drawn, preset, metrics, Options(weights=tmp_path))
    other = make(["lora"], out="other")
    other.write()
    with pytest.raises(Problem, match="has no finished picture"):
        score.run(other, other.protocol, [], Options())


def test_a_masked_metric_without_masks_is_one_sentence(drawn, monkeypatch):
    """Beside a metric of the judge too, which finds masks of its own."""
    metrics = {"judge": drawn.protocol.metrics["judge-identity-masked"], **protocol.load("jedi-1").metrics}
    preset = protocol.checked({**_unread(drawn), "metrics": metrics, "axes": ["judge"] * 2}, "both")
    with pytest.raises(Problem, match="mdino needs masks of the subject"):
        score.run(drawn, preset, ["judge", "mdino"], Options())
    monkeypatch.setattr(score.eyes, "load", lambda *_: dataclasses.make_dataclass("Eye", ["key"])("dino"))
    with pytest.raises(Problem, match="mdino needs masks of the subject"):
        score.run(drawn, protocol.load("jedi-1"), ["mdino"], Options())


def test_networks_and_nouns_fail_before_the_slow_part(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(score.eyes, "folders", lambda named: [tmp_path])
    monkeypatch.setattr(score.Scorer, "score", lambda *_: pytest.fail("the slow part"))
    (tmp_path / "dino-vits16").mkdir()
    (tmp_path / "dino-vits16" / "config.json").write_text('{"model_type": "vit"}')
    (tmp_path / "dino-vits16" / "model.safetensors").write_bytes(b"broken")
    with pytest.raises(
        Problem, match=r"Expected the whole network dino-vits16 in .*dino-vits16, got files that cannot"
    ):
        score.run(drawn, protocol.load("dreambooth"), ["dino"], Options())
    monkeypatch.setattr(score.eyes, "CLASSES", ("ball",))
    with pytest.raises(Problem, match="judge-prompt knows the classes ball, and nemo is a fish: leave"):
        score.run(drawn, drawn.protocol, ["judge-prompt"], Options())


def test_masks_by_a_detector(drawn, monkeypatch, tmp_path):
    asked = []

    class Finds:
        key = "finder-1"

        def box(self, picture, noun):
            asked.append(noun)
            return None if len(asked) == 1 else (10.0, 20.0, 60.0, 90.0)

    monkeypatch.setattr(score.eyes.detectors, "load", lambda *_: Finds())
    facts, found = scored(drawn, metrics=["judge-identity-masked"], detector="finder")
    assert set(asked) == {"fish"} and len(asked) == 8 and facts["networks"]["masks"] == "finder-1"
    assert sum(np.isnan(s.value) for s in found["judge-identity-masked"]) >= 1
    assert all(place[3:] == pytest.approx([35 / 128, 55 / 128]) for place in facts["centers"])
    monkeypatch.undo()
    with pytest.raises(Problem, match=r"Expected a detector among owlv2-.*, grounding-dino-tiny, got finder"):
        scored(drawn, metrics=["judge-identity-masked"], detector="finder")


def test_a_changed_or_broken_picture_is_one_sentence(drawn):
    path = drawn.folder / "images" / "lora" / "nemo" / "0" / "00-7.png"
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(Problem, match=r"00-7\.png cannot be read"):
        scored(drawn)


def test_broken_scores_are_one_sentence(drawn):
    about = score.run(drawn, drawn.protocol, ["judge-prompt"], Options())
    about.with_suffix(".jsonl").write_text(json.dumps({"metric": "judge-prompt"}))
    with pytest.raises(Problem, match=r"are missing or broken: run `run.py evaluate score` again"):
        score.read(about)


def test_the_folder_of_image_reward_is_checked_first(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(score.Scorer, "score", lambda *_: pytest.fail("the slow part"))
    (tmp_path / "ImageReward.pt").write_bytes(b"")
    options = Options(weights=tmp_path, reward_python=tmp_path / "ImageReward.pt")
    with pytest.raises(Problem, match=r"in .*, got no med_config\.json: put those of huggingface\.co/THUDM"):
        score.run(drawn, protocol.load("vico"), ["image-reward"], options)
