"""Sets of near-copies, on which a joint model learns to copy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from likeness.demo.training.jedi import tinyland
from likeness.demo.training.jedi.copies import copy_of_set
from likeness.demo.training.jedi.scenes import VIEWS, scene_of_set
from likeness.demo.world.scene import render


def test_views_of_a_set_differ_by_a_jitter_alone():
    for number in range(20):
        first, *others = (copy_of_set(VIEWS * number + view, 0) for view in range(VIEWS))
        for other in others:
            assert replace(other, pose=first.pose) == first and other.pose != first.pose
            moved = abs(other.pose.x - first.pose.x) + abs(other.pose.y - first.pose.y)
            assert moved < 0.09 and abs(other.pose.size / first.pose.size - 1) < 0.07


def test_pictures_of_a_set_are_closer_than_those_of_the_joint_model():
    def apart(scene_of):
        one, other = (render(scene_of(VIEWS * 3 + view, 0)).image.astype(float) for view in (0, 1))
        return np.abs(one - other).mean()

    assert apart(copy_of_set) < 0.5 * apart(scene_of_set)


def test_a_run_on_copies_has_its_own_pictures_captions_and_files(monkeypatch, tmp_path):
    seen = {}

    class Stopped(Exception):
        pass

    def pool(_work, _count, scene_of, name):
        seen.update(scene_of=scene_of, name=name)

    def latents(_pool, path, *_arguments):
        seen["path"] = path.name
        raise Stopped

    monkeypatch.setattr(tinyland, "Pool", pool)
    monkeypatch.setattr(tinyland, "latents_of", latents)
    with pytest.raises(Stopped):
        tinyland.train(tmp_path, 1, None, torch.device("cpu"), scene_of=copy_of_set, kind="copies")
    assert seen["scene_of"] is copy_of_set and seen["name"] == "copies" and seen["path"].startswith("copies-latents-")
    indices, members, rng = tinyland.drawn_sets(7)
    captions = tinyland.set_captions(indices, members, rng, copy_of_set)
    places = [copy_of_set(int(i), 0).subject.name for i in indices]
    assert all(not text or name in text for text, name in zip(captions, places, strict=True))
