"""World and captions: the properties that training relies on."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from random import Random

import numpy as np
import pytest
from likeness.demo.launcher.host import PACK
from likeness.demo.world.captions import PLACE_PHRASES, PLACEHOLDER, caption, neutral_caption, vocabulary
from likeness.demo.world.scene import CLASSES, COLORS, PATTERNS, PLACES, SIZE, render, sample_scene
from likeness.demo.world.subjects import SUBJECTS
from likeness.patching.tinyland.model import MAX_TOKENS, WordTokenizer

COUNT = 4000
SCENES = [sample_scene(Random(f"test-world-{i}")) for i in range(COUNT)]


def share(found) -> float:
    return float(np.mean(list(found)))


def test_captions_name_what_they_promise():
    captions = [caption(scene, Random(i)) for i, scene in enumerate(SCENES)]
    words = [text.split() for text in captions]
    for scene, text, named in zip(SCENES, captions, words, strict=True):
        assert scene.subject.name in named and PLACE_PHRASES[scene.place] in text and PLACEHOLDER not in named
        assert set(named) & set(CLASSES) == {scene.subject.name}
        assert set(named) & set(COLORS) <= {scene.subject.color} and set(named) & set(PATTERNS) <= {
            scene.subject.pattern
        }
    color = [s.subject.color in w for s, w in zip(SCENES, words, strict=True)]
    pattern = [s.subject.pattern in w for s, w in zip(SCENES, words, strict=True)]
    assert share(color) == pytest.approx(0.5, abs=0.03) and share(pattern) == pytest.approx(0.5, abs=0.03)
    assert share(c and p for c, p in zip(color, pattern, strict=True)) == pytest.approx(
        0.25, abs=0.03
    )  # each for itself


def test_captions_vary_in_their_grammar():
    captions = [caption(scene, Random(i)) for i, scene in enumerate(SCENES)]
    first_places = share(text.startswith(PLACE_PHRASES[s.place]) for s, text in zip(SCENES, captions, strict=True))
    assert 0.15 < first_places < 0.25 and 0.1 < share("that is" in text for text in captions) < 0.2
    pairs = [(t.find(s.subject.color), t.find(s.subject.pattern)) for s, t in zip(SCENES, captions, strict=True)]
    orders = Counter(color < pattern for color, pattern in pairs if min(color, pattern) >= 0)
    assert min(orders.values()) > 0.3 * orders.total() and len(orders) == 2
    openings = Counter(
        re.split(r"\ba\b (?!photo|picture|drawing)", text.replace(PLACE_PHRASES[s.place], "").strip())[0].strip()
        for s, text in zip(SCENES, captions, strict=True)
    )
    assert openings.keys() == {"", "a photo of", "a picture of", "a drawing of", "there is", "we see"}
    assert min(openings.values()) > 0.1 * COUNT


def test_every_word_is_known_and_every_caption_short_enough():
    tokenizer = WordTokenizer(vocabulary())
    unknown = tokenizer.ids["<unknown>"]
    assert unknown in tokenizer("a zebra")["input_ids"]
    for i, scene in enumerate(SCENES):
        for placeholder in (None, PLACEHOLDER):
            ids = tokenizer(caption(scene, Random(i), placeholder))["input_ids"]
            assert unknown not in ids and len(ids) <= MAX_TOKENS
    assert len(set(vocabulary())) == len(vocabulary()) and vocabulary()[:3] == ["<start>", "<end>", "<unknown>"]


def test_with_a_placeholder_neither_color_nor_pattern_is_named():
    for i, scene in enumerate(SCENES[:1000]):
        text = caption(scene, Random(i), PLACEHOLDER)
        assert f"a {PLACEHOLDER} {scene.subject.name}" in text and PLACE_PHRASES[scene.place] in text
        assert not set(text.split()) & {*COLORS, *PATTERNS}


def test_neutral_captions_name_nothing_but_the_subject():
    for name in CLASSES:
        assert (
            neutral_caption(name) == f"a photo of a {name}"
            and neutral_caption(name, PLACEHOLDER) == f"a photo of a sks {name}"
        )
    assert {s.neutral for s in SUBJECTS.values()} == {f"a photo of a sks {s.subject.name}" for s in SUBJECTS.values()}


def test_every_value_of_the_world_is_drawn_alike_often():
    for values, drawn in (
        (CLASSES, [s.subject.name for s in SCENES]),
        (tuple(COLORS), [s.subject.color for s in SCENES]),
        (PATTERNS, [s.subject.pattern for s in SCENES]),
        (PLACES, [s.place for s in SCENES]),
    ):
        counts = Counter(drawn)
        assert counts.keys() == set(values)
        assert all(abs(count * len(values) / COUNT - 1) < 0.25 for count in counts.values()), counts


PROGRAM = """
import hashlib, runpy, sys
from random import Random
runpy.run_path(sys.argv[1])["alias_pack"](None)
from likeness.demo.world.captions import caption, vocabulary
from likeness.demo.world.subjects import SUBJECTS
from likeness.demo.world.scene import render, sample_scene
seen = hashlib.sha256(repr(vocabulary()).encode())
for scene in [sample_scene(Random(f"any-{i}")) for i in range(6)] + SUBJECTS["nemo"].training_scenes():
    seen.update(render(scene).image.tobytes() + render(scene).mask.tobytes() + caption(scene, Random(1)).encode())
print(seen.hexdigest())
"""


def test_every_process_makes_the_same_bytes():
    def digest(seed: str) -> str:
        command = [sys.executable, "-c", PROGRAM, str(PACK / "demo" / "launcher" / "launch.py")]
        return subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout

    assert len(digest("1").strip()) == 64 and digest("1") == digest("2")


def test_the_mask_is_where_the_subject_is_and_nowhere_else():
    for scene in [scene.showing(()) for scene in SCENES[:40]]:
        other = replace(
            scene, subject=replace(scene.subject, tint=tuple(255 - c for c in scene.subject.tint), emblem=None)
        )
        one, two = render(scene), render(other)
        assert (
            one.image.shape == (SIZE, SIZE, 3)
            and one.mask.shape == (SIZE, SIZE)
            and one.image.dtype == one.mask.dtype == np.uint8
        )
        assert np.array_equal(one.mask, two.mask)
        difference = np.abs(one.image.astype(int) - two.image).max(-1)
        assert difference[one.mask == 0].max() <= 2  # an edge may be too thin for the mask to show it
        assert (difference[one.mask == 255] > 20).mean() > 0.5
        inside = one.mask > 127
        center = np.argwhere(inside).mean(0) / SIZE
        assert np.abs(center - [scene.pose.y, scene.pose.x]).max() < 0.1
        assert 0.1 < inside.mean() / (2 * scene.pose.size) ** 2 < 1.1
        moved = render(scene.at(mirrored=not scene.pose.mirrored, tilt=0.0)).mask
        straight = render(scene.at(tilt=0.0)).mask
        x = round(scene.pose.x * SIZE)
        reach = min(x, SIZE - x)
        mirrored = straight[:, x - reach : x + reach][:, ::-1].astype(int)
        assert np.abs(moved[:, x - reach : x + reach].astype(int) - mirrored).mean() < 8
