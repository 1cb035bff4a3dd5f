"""Saved files that somebody has damaged or forged: refused in one sentence, or read as a whole one."""

import io
import os
import pickle
import random
import re

import folder_paths
import pytest
import torch
from likeness.patching.host import file_names, files
from likeness.patching.pick_and_draw import template_file
from likeness.tests.patching.host.mutations import Code, mutated, parts
from likeness.tests.patching.host.parsers import is_sentence
from likeness.tests.patching.host.saved_files import FORMATS, given
from safetensors import SafetensorError

IN_SUITE, IN_ALL = 40, 1000
"""Files of each format in the suite, and of all four in the full one."""


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "output"))
    return tmp_path / "output"


def tried(form, count: int, first: int = 0) -> dict[str, list[str]]:
    """Loads mutated files and returns, for each mutation, what became of them. Fails on all but a sentence."""
    path = form.save(given(form), "one")
    whole, said = path.read_bytes(), {}
    form.load(path.name)
    for seed in range(first, first + count):
        mutation, data = mutated(whole, seed)
        path.write_bytes(data)
        try:
            loaded = form.load(path.name)
        except ValueError as error:
            text = str(error)
            assert is_sentence(text, form.LOAD), f"seed {seed}, {mutation}: {text[:300]!r}"
            said.setdefault(mutation, []).append(text)
        else:
            assert str(loaded)
            again = form.save(loaded, "again")
            assert str(form.load(again.name)) == str(loaded), f"seed {seed}, {mutation}"
            again.unlink()
            said.setdefault(mutation, []).append("")
    return said


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.STORE.what)
def test_a_mutated_file_is_refused_or_whole(output, form):
    said = tried(form, IN_SUITE)
    assert len(said) >= 6
    refused = sum(bool(text) for texts in said.values() for text in texts)
    assert refused > IN_SUITE // 2, said
    assert not list(output.parent.rglob("escaped*"))


@pytest.mark.full
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.STORE.what)
def test_many_mutated_files_are_refused_or_whole(output, form):
    said = tried(form, IN_ALL // len(FORMATS), first=IN_SUITE)
    print(form.STORE.what, {name: f"{sum(map(bool, texts))} of {len(texts)}" for name, texts in said.items()})


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.STORE.what)
def test_code_in_a_file_does_not_run(output, form, tmp_path):
    path, code = form.save(given(form), "one"), Code(tmp_path / "ran")
    archive = io.BytesIO()
    torch.save({"x": code}, archive)
    for data in (pickle.dumps(code), archive.getvalue(), path.read_bytes()[:8] + pickle.dumps(code)):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="expected") as error:
            form.load(path.name)
        assert is_sentence(str(error.value), form.LOAD) and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.STORE.what)
def test_only_files_of_the_folder_are_listed(output, form, tmp_path):
    path = form.save(given(form), "one")
    secret = tmp_path / "secret.safetensors"
    secret.write_bytes(path.read_bytes())
    (path.parent / "inside.safetensors").symlink_to(path)
    (path.parent / "out.safetensors").symlink_to(secret)
    (path.parent / "around.safetensors").symlink_to("around.safetensors")
    (path.parent / "folder.safetensors").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(path.parent / "pipe.safetensors")
    assert form.STORE.names() == ["inside.safetensors", path.name]
    for name in ("out.safetensors", "pipe.safetensors", "folder.safetensors", "../secret.safetensors", str(secret)):
        with pytest.raises(FileNotFoundError) as error:
            form.load(name)
        assert is_sentence(str(error.value), form.LOAD)


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.STORE.what)
def test_what_is_loaded_no_longer_depends_on_its_file(output, form):
    path = form.save(given(form), "one")
    loaded, whole = form.load(path.name), path.read_bytes()
    expected = parts(form.save(loaded, "two").read_bytes())
    with path.open("r+b") as file:  # in place, as cp does it
        file.write(b"\0" * len(whole))
    assert parts(form.save(loaded, "three").read_bytes()) == expected


NAMES = ["", ".", "./", "a/..", "..", "../x", "a/../../x", "/x", "/", "x\0y", "x" * 300, "\ud800", "a/" + "ä" * 150]
ON_WINDOWS = ["NUL", "con", "a/aux.txt", "COM1", "lpt9 .x", "x:y", "a?", "a*", "a|b", "a ", "a.", "a. /b", "C:\\x"]


@pytest.mark.parametrize("name", NAMES + ON_WINDOWS, ids=ascii)
def test_a_name_that_is_none_is_refused(output, name, monkeypatch):
    monkeypatch.setattr(file_names, "WINDOWS", name in ON_WINDOWS)
    for form in FORMATS:
        with pytest.raises(ValueError, match="expected a name") as error:
            form.save(given(form), name)
        assert is_sentence(str(error.value), form.SAVE)
    assert not [path for path in output.parent.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["one", "a/b/c", "NULL", "console", "com", "x.y", "%year%-%month%", "é/ü", "x" * 200])
@pytest.mark.parametrize("windows", [False, True])
def test_a_name_is_taken(output, name, windows, monkeypatch):
    monkeypatch.setattr(file_names, "WINDOWS", windows)
    template_file.STORE.check_prefix(name)
    path = template_file.save(given(template_file), name)
    assert path.is_relative_to(output / "likeness_templates") and re.search(r"_0000\d_\.safetensors$", path.name)


def test_what_a_killed_server_left_is_removed_in_time(output, monkeypatch):
    path = template_file.save(given(template_file), "one")
    left, mine = path.with_name("two_00001_.tmp"), path.with_name("notes.tmp")
    for file in (left, mine):
        file.write_bytes(b"half")
    template_file.save(given(template_file), "one")
    assert left.exists()  # somebody may still be writing
    monkeypatch.setattr(files, "_STALE_AFTER", -1.0)
    template_file.save(given(template_file), "one")
    assert not left.exists() and mine.exists()
    assert template_file.STORE.names() == [f"one_0000{n}_.safetensors" for n in (1, 2, 3)]


def test_a_disk_that_refuses_is_told_in_a_sentence(output, monkeypatch):
    def refuse(tensors, path, metadata):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(files, "save_file", refuse)
    with pytest.raises(OSError, match=r"Save Layout Template: expected to write .*No space left") as error:
        template_file.save(given(template_file), "one")
    assert is_sentence(str(error.value), template_file.SAVE)


def test_equal_seeds_give_equal_files():
    data = random.Random(0).randbytes(10)
    header = b'{"__metadata__":{"a":"[1]"},"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    whole = len(header).to_bytes(8, "little") + header + data[:4]
    assert [mutated(whole, n) for n in range(50)] == [mutated(whole, n) for n in range(50)]
