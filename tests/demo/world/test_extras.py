"""Extras of a scene: what is drawn, what of the subject they cover, and that captions name them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from likeness.demo.world.captions import EXTRA_PHRASES, PLACEHOLDER, caption, named_extras, prompt
from likeness.demo.world.extras import COMPANIONS, EXTRAS, WEATHER
from likeness.demo.world.scene import INDOORS, PLACES, Pose, render, sample_scene

SCENES = [sample_scene(Random(f"test-extras-{i}")) for i in range(3000)]
COVERING = ("hat", *COMPANIONS)


def test_half_of_the_scenes_have_extras_and_each_is_as_frequent_as_its_places_allow():
    counts = Counter(len(scene.extras) for scene in SCENES)
    assert counts.keys() == {0, 1, 2} and counts[0] == pytest.approx(1500, abs=90) and counts[2] > 450
    each = Counter(name for scene in SCENES for name in scene.extras)
    assert each.keys() == set(EXTRAS) and min(each.values()) > 0.6 * max(each.values()), each


def test_no_weather_indoors_and_nothing_together_that_has_no_room():
    for scene in SCENES:
        assert scene.place not in INDOORS or not set(scene.extras) & set(WEATHER)
        assert not any({*pair} <= {*scene.extras} for pair in (("hat", "umbrella"), ("moon", "umbrella"), WEATHER))


def test_extras_and_fields_are_the_same_thing():
    plain = SCENES[0].showing(())
    for name in EXTRAS:
        shown = plain.showing((name,))
        assert shown.extras == (name,) and shown.showing(()) == plain
        assert shown == replace(plain, **({"companion": name} if name in COMPANIONS else {name: True}))
    assert plain.showing(("duck", "moon", "hat")).extras == ("hat", "moon", "duck")
    for wrong in (("duck", "flower"), ("zebra",)):
        with pytest.raises(ValueError, match="expected extras of hat, umbrella"):
            plain.showing(wrong)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", EXTRAS)
def test_every_extra_changes_the_picture_and_only_what_covers_the_subject_its_mask(name, place):
    base = sample_scene(Random(f"{name}-{place}"), place=place, extras=False)
    for x in (0.3, 0.7):
        scene = replace(base, pose=Pose(x, 0.66, 0.3, 8.0, False))
        without, shown = render(scene), render(scene.showing((name,)))
        difference = np.abs(without.image.astype(int) - shown.image).max(-1)
        assert (difference > 40).sum() > 300
        lost = without.mask.astype(int) - shown.mask
        assert lost.min() >= 0 and (lost.max() == 0 or name in COVERING)
        assert lost.sum() < 0.4 * without.mask.sum()
        assert difference[shown.mask == 255].max() == 0  # what the mask keeps is the subject, as it was


def test_a_hat_covers_some_of_each_subject():
    for name in ("ball", "cube", "star", "heart", "house", "fish", "mushroom", "car"):
        scene = next(s for s in SCENES if s.subject.name == name and "hat" in s.extras)
        lost = render(scene.showing(())).mask.astype(int) - render(scene.showing(("hat",))).mask
        assert (lost > 127).sum() > 40, name


def test_sampled_extras_are_inside_the_picture():
    for scene in SCENES[:300]:
        for name in set(scene.extras) - {"rain"}:
            alone = render(scene.showing((name,)))
            difference = np.abs(render(scene.showing(())).image.astype(int) - alone.image).max(-1) > 40
            assert difference.sum() > 250, (name, scene)
            edge = np.concatenate(
                [difference[0], difference[:, 0], difference[:, -1]]
            )  # shadows may leave at the bottom
            assert edge.sum() < 32, (name, scene)


def test_captions_nearly_always_name_extras_and_never_one_that_is_not_there():
    named, there = 0, 0
    for i, scene in enumerate(SCENES):
        for placeholder in (None, PLACEHOLDER):
            found = named_extras(caption(scene, Random(i), placeholder))
            assert set(found) <= set(scene.extras)
            named, there = named + len(found), there + len(scene.extras)
    assert 0.94 < named / there < 0.98


def test_prompts_name_their_extras():
    assert prompt("fish", "sea", "red", "striped") == "a photo of a red striped fish in the sea"
    wanted = "a photo of a sks fish wearing a hat in the sea beside a duck"
    assert prompt("fish", "sea", placeholder=PLACEHOLDER, extras=("duck", "hat")) == wanted
    for name in EXTRAS:
        text = prompt("ball", "city", extras=(name,))
        assert named_extras(text) == (name,) and EXTRA_PHRASES[name] in text
    assert named_extras(prompt("ball", "city")) == ()
