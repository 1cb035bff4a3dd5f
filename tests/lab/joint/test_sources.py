"""Sources of sets: what a folder holds, and which source a step takes."""

from random import Random

import numpy as np
import pytest
import torch
from likeness.demo.launcher.files import Problem
from likeness.lab.joint.finetune import Encoded, Settings, Texts, drawn
from likeness.lab.joint.shards import Entry, write_shard
from likeness.lab.joint.sources import MOST_FRAMES, find
from PIL import Image
from safetensors.torch import save_file


def entry(key: str, count: int) -> Entry:
    return Entry(key, (np.zeros((16, 16, 3), np.uint8),) * count, ("a mug",) * count, {})


def frames(folder, count, size=(32, 16)) -> None:
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("RGB", size, (i, 0, 0)).save(folder / f"{i:03d}.png")


def test_every_kind_of_source_is_found(tmp_path):
    write_shard(tmp_path / "s3" / "shards" / "s3-000000.tar", iter([entry("0", 2), entry("1", 3)]))
    write_shard(tmp_path / "s3" / "shards" / "s3-000001.tar", iter([entry("2", 4)]))
    assert [(one.name, one.members) for one in find(tmp_path / "s3")] == [
        ("s3-000000/0", 2),
        ("s3-000000/1", 3),
        ("s3-000001/2", 4),
    ]
    frames(tmp_path / "videos" / "dog", 40)
    frames(tmp_path / "videos" / "cat", 3)
    for name in ("dog", "cat"):
        (tmp_path / "videos" / f"{name}.txt").write_text(f"a {name}\n runs")
    cat, dog = find(tmp_path / "videos")
    assert (cat.members, dog.members) == (3, MOST_FRAMES) and dog.captions == ("a dog runs",) * MOST_FRAMES
    shown = dog.pictures(8)
    assert shown.shape == (MOST_FRAMES, 8, 8, 3) and shown[0, 0, 0, 0] == 0 and shown[-1, 0, 0, 0] == 39
    before = cat.identity
    (tmp_path / "videos" / "cat.txt").write_text("another")
    assert find(tmp_path / "videos")[0].identity != before


def test_sources_that_lack_something_are_one_sentence(tmp_path):
    def refused(sentence):
        with pytest.raises(Problem, match=sentence):
            find(tmp_path / "one")

    refused("expected sets .* got none: give --sets a folder that holds some")
    frames(tmp_path / "one" / "dog", 1)
    refused("expected the caption of dog in .*dog.txt, got no such file: add it")
    (tmp_path / "one" / "dog.txt").write_text("a dog")
    refused("expected several pictures in .*dog, got 1: put it into a folder of single pictures")
    write_shard(tmp_path / "two" / "a.tar", iter([]))
    with pytest.raises(Problem, match=r"expected sets in the 1 shards of .*, got empty ones: make them again"):
        find(tmp_path / "two")


def encoded(folder, name, members, value) -> Encoded:
    tensors = {"latents": torch.full((members, 4, 2, 2), value), "context": torch.full((members, 3, 5), value)}
    save_file({**tensors, "pooled": torch.full((members, 6), value)}, folder / f"{name}.safetensors")
    return Encoded(folder / f"{name}.safetensors", members)


def test_each_source_is_taken_equally_often_and_keeps_its_set_size(tmp_path):
    """A large source of sets, and a small one of single pictures, which are sets of one."""
    sets = [encoded(tmp_path, f"set{i}", 4, 1.0) for i in range(9)]
    single = [encoded(tmp_path, "single", 1, 2.0)]
    without = Texts(torch.zeros(1, 3, 5), torch.zeros(1, 6))
    settings = Settings(0, 64, 2, 0.0, (2, 3), 0.2, "all")
    taken, dropped = {1.0: [], 2.0: []}, []
    for step in range(200):
        clean, texts, members = drawn([sets, single], without, settings, Random(step), torch.device("cpu"))
        assert clean.shape == (2 * members, 4, 2, 2) and len(clean.unique()) == 1
        assert texts.context.shape == (2 * members, 3, 5) and texts.pooled.shape == (2 * members, 6)
        assert torch.equal(texts.pooled[:, 0], texts.context[:, 0, 0])
        taken[float(clean[0, 0, 0, 0])].append(members)
        dropped.append(float((texts.pooled[:, 0] == 0).float().mean()))
    assert 80 <= len(taken[2.0]) <= 120 and set(taken[2.0]) == {1} and set(taken[1.0]) == {2, 3}
    assert 0.1 < np.mean(dropped) < 0.3


def test_one_source_draws_as_before(tmp_path):
    """A run of one folder that was begun before sources were mixed goes on with the same sets."""
    sets = [encoded(tmp_path, f"set{i}", 3, float(i)) for i in range(5)]
    without = Texts(torch.zeros(1, 3, 5), torch.zeros(1, 6))
    settings = Settings(0, 64, 2, 0.0, (1, 2, 3), 0.0, "all")
    for step in range(10):
        clean, _, members = drawn([sets], without, settings, Random(step), torch.device("cpu"))
        rng = Random(step)
        assert members == rng.choice(settings.set_sizes)
        first, second = rng.sample(sets, 2)
        assert [sets.index(first), sets.index(second)] == clean[::members, 0, 0, 0].tolist()
