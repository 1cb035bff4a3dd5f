"""Stages that the demo's own model draws."""

from functools import partial

import numpy as np
import pytest
from likeness.benchmarks import generate
from likeness.demo.launcher.files import Problem
from likeness.demo.world.captions import vocabulary
from likeness.demo.world.scene import SIZE, render, sample_scene, sample_subject
from likeness.lab.s3 import command, drawn_world, makers, prompts
from likeness.lab.s3.plan import Plan
from PIL import Image


@pytest.fixture
def plan(tmp_path):
    made = Plan(tmp_path, drawn_world.facts(8))
    made.write()
    return made


@pytest.fixture
def world(plan, monkeypatch):
    monkeypatch.setattr(generate, "Settings", partial(generate.Settings, steps=2))
    return drawn_world.DrawnWorld(plan)


def test_every_prompt_has_words_that_the_model_knows(plan):
    writer = makers.writer(plan, "prompts", None)
    bank = prompts.fill(plan, plan.facts["objects"], writer, lambda _: None)
    for thing in plan.facts["objects"]:
        objects, scenes = (bank.texts(thing, kind) for kind in ("object", "scene"))
        assert len(objects) == 32 and len(scenes) == 8
        assert set(" ".join([*objects, *scenes]).split()) <= set(vocabulary())


def test_the_judge_cuts_one_subject_out_of_each_panel(plan, world):
    rng = plan.rng(plan.row(0), "test")
    subject = sample_subject(rng)
    drawn = [render(sample_scene(rng, subject)) for _ in range(4)]
    halves = [np.concatenate([one.image for one in drawn[i : i + 2]], 1) for i in (0, 2)]
    cuts = world.segment(plan.row(0), Image.fromarray(np.concatenate(halves)))
    assert len(cuts) == 4
    for cut, one in zip(cuts, drawn, strict=True):
        covered = np.asarray(cut.picture.getchannel("A")).astype(float).sum() / one.mask.astype(float).sum()
        assert 0.7 < covered < 1.3


@pytest.mark.slow
def test_what_is_drawn_depends_on_its_set_alone_and_keeps_the_subject(plan, world):
    first, second = plan.row(0), plan.row(1)
    text = "a photo of a red ball in the snow"
    collages = [np.asarray(world.collage(row, text)) for row in (first, second, first)]
    assert collages[0].shape == (2 * SIZE, 2 * SIZE, 3) and (collages[0] == collages[2]).all()
    assert (collages[0] != collages[1]).any()
    subject = Image.new("RGBA", (SIZE, SIZE), (0, 0, 0, 0))
    subject.paste((214, 40, 44, 255), (16, 16, 112, 112))
    drawn = np.asarray(world.background(first, 0, subject, text)).astype(int)
    assert drawn.shape == (SIZE, SIZE, 3)
    other = np.asarray(world.background(first, 1, subject, text)).astype(int)
    assert np.abs(other - drawn)[:8].mean() > 2 * np.abs(other - drawn)[40:88, 40:88].mean()


def test_a_larger_number_adds_sets_and_another_plan_is_refused(tmp_path, monkeypatch):
    def planned(*arguments):
        return command._demo_plan(command.parser().parse_args(["make", str(tmp_path), *arguments]))

    assert planned("--demo-model", "8").shards == 1
    made = planned("--demo-model", "250")
    assert made.shards == 3 and made.facts["per_shard"] == drawn_world.PER_SHARD
    with pytest.raises(Problem, match="--demo-model is 0, expected 1 or more sets"):
        planned("--demo-model", "0")
