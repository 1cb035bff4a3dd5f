"""Shards: the same bytes for the same sets, whole or not at all, and read by training."""

import io
import tarfile

import numpy as np
import pytest
from likeness.demo.launcher.files import Problem
from likeness.lab.joint.shards import Entry, facts, read_shard, write_shard

SETS = [
    Entry(
        "0000001", tuple(np.full((16, 16, 3), v, np.uint8) for v in (10, 200)), ("a mug", "the mug"), {"object": "mug"}
    ),
    Entry("0000004", tuple(np.full((16, 16, 3), v, np.uint8) for v in (0, 90, 50)), ("a", "", "ü"), {"object": "cup"}),
]


@pytest.mark.parametrize("kind", ["png", "webp"])
def test_sets_are_read_as_they_were_written(tmp_path, kind):
    assert write_shard(tmp_path / "a.tar", iter(SETS), kind) == 2
    write_shard(tmp_path / "b.tar", iter(SETS), kind)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()
    found = read_shard(tmp_path / "a.tar")
    assert [one.captions for one in found] == [("a mug", "the mug"), ("a", "", "ü")]
    assert [one.name for one in found] == ["a/0000001", "a/0000004"] and found[0].identity != found[1].identity
    for one, entry in zip(found, SETS, strict=True):
        assert np.abs(one.pictures(16).astype(int) - np.stack(entry.members)).max() <= (0 if kind == "png" else 4)
    assert found[1].pictures(8).shape == (3, 8, 8, 3)
    assert facts(tmp_path / "a.tar")["0000004"] == {"object": "cup"}
    with tarfile.open(tmp_path / "a.tar") as file:
        names = file.getnames()
        assert {(m.mtime, m.uid, m.uname) for m in file} == {(0, 0, "")}
    assert names[:3] == [f"0000001.{kind}", "0000001.txt", "0000001.json"]


def test_a_shard_that_stops_leaves_nothing(tmp_path):
    def stopping():
        yield SETS[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "a.tar", stopping())
    assert not list(tmp_path.iterdir())


def test_broken_shards_are_one_sentence(tmp_path):
    path = tmp_path / "a.tar"
    write_shard(path, iter(SETS))
    content = path.read_bytes()

    def refused(sentence):
        with pytest.raises(Problem, match=sentence):
            for one in read_shard(path):
                one.pictures(16)

    path.write_bytes(b"no tar at all" * 100)
    refused(r"The shard .*a\.tar is broken \(.*\): remove it, and make it again")
    path.write_bytes(content[:700])
    refused("is broken")
    with tarfile.open(path, "w") as file:
        member = tarfile.TarInfo("1.txt")
        file.addfile(member, io.BytesIO())
    refused("1 has no picture")
    wrong = Entry("1", SETS[0].members, ("one",), {})
    write_shard(path, iter([wrong]))
    refused(r"expected 2 captions separated by .* in .*a\.tar, 1, got 1: make the set again")
