"""Personal subjects: who they are, who is told apart by looks alone, and who is reported."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from likeness.demo.world.look_alikes import TINT_DISTANCE, appearance, visible
from likeness.demo.world.scene import CLASSES, COLORS, PLACES, TINT_SPREAD, render
from likeness.demo.world.subjects import HELD_OUT, REPORTED, SUBJECTS, TUNING, TWINS

FIRST = (
    *("nemo", "amanita", "taxi", "valentine", "rubik", "inkcap"),
    *("twinkle", "cottage", "bouncer", "crate", "racer", "locket"),
)
EVERYONE = {**SUBJECTS, **HELD_OUT}


def test_older_names_come_first_and_keep_their_classes():
    assert tuple(SUBJECTS)[:12] == FIRST and len(SUBJECTS) == 24
    classes = "fish mushroom car heart cube mushroom star house ball cube car heart"
    assert " ".join(SUBJECTS[name].subject.name for name in FIRST) == classes


def test_eight_tune_and_sixteen_report():
    assert (len(TUNING), len(REPORTED)) == (8, 16) and {*TUNING, *REPORTED} == set(SUBJECTS.values())
    assert Counter(s.subject.name for s in SUBJECTS.values()) == dict.fromkeys(CLASSES, 3)
    assert {s.subject.name for s in REPORTED} == set(CLASSES) and len({s.subject.name for s in TUNING}) >= 7
    assert Counter(s.place for s in SUBJECTS.values()) == dict.fromkeys(PLACES, 3)


def test_what_is_held_out_is_in_no_training_picture():
    tuned = {scene.subject for s in SUBJECTS.values() for scene in s.training_scenes()}
    assert len(HELD_OUT) == 4 and not {s.subject for s in HELD_OUT.values()} & tuned
    assert not HELD_OUT.keys() & SUBJECTS.keys()


def test_twins_are_alike_in_all_words_and_differ_in_emblem_and_tint():
    for one, other in ((SUBJECTS[a].subject, SUBJECTS[b].subject) for a, b in TWINS):
        assert (one.name, one.color, one.pattern) == (other.name, other.color, other.pattern)
        assert one.emblem != other.emblem and math.dist(one.tint, other.tint) > TINT_DISTANCE
    reported = {s.name for s in REPORTED}
    assert sum({*pair} <= reported for pair in TWINS) == 2 and all({*pair} & reported for pair in TWINS)


@pytest.mark.parametrize("name", EVERYONE)
def test_a_subject_can_be_drawn_by_chance_and_is_seen(name):
    subject = EVERYONE[name].subject
    assert max(abs(a - b) for a, b in zip(subject.tint, COLORS[subject.color], strict=True)) <= TINT_SPREAD
    assert visible(subject)


def test_every_subject_looks_different():
    assert len({appearance(s.subject) for s in EVERYONE.values()}) == len(EVERYONE)
    scene = SUBJECTS["nemo"].training_scenes()[0]
    for one, other in ((SUBJECTS[a].subject, SUBJECTS[b].subject) for a, b in TWINS):
        pictures = [
            render(type(scene)(subject, scene.pose, scene.place, scene.background_seed)) for subject in (one, other)
        ]
        difference = np.abs(pictures[0].image.astype(int) - pictures[1].image).max(-1)
        assert (difference[pictures[0].mask > 127] > 24).mean() > 0.2


def test_references_show_the_subject_alone_in_one_place_and_almost_one_pose():
    for subject in SUBJECTS.values():
        scenes = subject.training_scenes()
        assert len(scenes) == 4 and {s.place for s in scenes} == {subject.place}
        assert not any(s.extras for s in scenes)
        assert max(abs(s.pose.x - subject.x) + abs(s.pose.y - subject.y) for s in scenes) <= 0.06
        for scene in scenes:
            mask = render(scene).mask
            assert not any(edge.any() for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1])), subject.name
