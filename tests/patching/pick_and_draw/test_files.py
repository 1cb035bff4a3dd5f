"""Palettes and templates as files."""

import json
from dataclasses import replace

import folder_paths
import pytest
import torch
from likeness.patching.features.references import INVERTED, NOISED, References
from likeness.patching.host import files
from likeness.patching.pick_and_draw import palette_file, template_file
from likeness.patching.pick_and_draw.build_template import draw_template
from likeness.tests.patching.pick_and_draw.guidance_runs import (
    SIDE,
    Calls,
    guided,
    levels,
    made,
    model_of,
    palette,
    recorded,
    run,
    square,
    template,
)
from likeness.tests.patching.tiny_models import latent
from safetensors import safe_open
from safetensors.torch import save_file

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path))
    return tmp_path


def saved_and_loaded(store, given):
    path = store.save(given, "test/one")
    assert path.suffix == ".safetensors" and not list(path.parent.glob("*.tmp"))
    return path, store.load(store.STORE.names()[0])


@pytest.mark.parametrize("pictures", [1, 2])
@pytest.mark.parametrize("source", [NOISED, INVERTED])
def test_a_saved_palette_guides_alike_without_being_computed_again(output, pictures, source):
    model = model_of()
    given = made(model, latent=latent(pictures, SIDE, SIDE, 20), source=source).palette
    items = tuple(replace(item, inversion_steps=1) for item in given.references.items)
    given = replace(given, references=References(items))
    expected = run(guided(model, given)[0])
    _, loaded = saved_and_loaded(palette_file, given)
    assert (loaded.blocks, loaded.family, loaded.context, loaded.window) == (
        given.blocks,
        given.family,
        given.context,
        given.window,
    )
    calls = Calls(model)
    assert torch.equal(run(guided(calls.model, loaded)[0]), expected)
    known = Calls(model)
    run(guided(known.model, given)[0])
    assert len(calls.rows) == len(known.rows)


def test_a_saved_template_guides_alike(output):
    model, given = model_of(), template(model_of())
    drawn = draw_template(model, None, "0.1 0.2 0.5 0.9", {"samples": torch.zeros(1, 4, SIDE, SIDE)})
    for wanted in (given, drawn):
        path, loaded = saved_and_loaded(template_file, wanted)
        assert torch.equal(run(guided(model, None, loaded)[0]), run(guided(model, None, wanted)[0]))
        path.unlink()


@pytest.mark.parametrize("store", [palette_file, template_file])
def test_names_cannot_leave_the_folder(output, store):
    (output / "secret.safetensors").write_bytes(b"x")
    for name in ("../secret.safetensors", str(output / "secret.safetensors"), "nothing.safetensors"):
        with pytest.raises(FileNotFoundError, match="expected a saved"):
            store.load(name)
    for prefix in ("../../escaped", "../escaped", str(output.parent / "escaped")):
        with pytest.raises(
            ValueError, match=r"expected a name below output/likeness_\w+, got .*; change filename_prefix"
        ):
            store.save(palette(model_of()) if store is palette_file else recorded(), prefix)
    assert not list(output.parent.rglob("escaped*"))


@pytest.mark.parametrize("store", [palette_file, template_file])
def test_a_broken_file_is_one_sentence(output, store):
    path = store.save(palette(model_of()) if store is palette_file else recorded(), "test/one")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="expected a whole safetensors file") as failure:
        store.load("test/" + path.name)
    assert "\n" not in str(failure.value)


def test_a_write_that_fails_leaves_nothing(output, monkeypatch):
    def broken(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(files, "save_file", broken)
    with pytest.raises(OSError, match="disk full"):
        palette_file.save(palette(model_of()), "one")
    assert not [path for path in output.rglob("*") if path.is_file()]


def test_features_that_lack_tokens_are_refused(output):
    model = model_of()
    path = palette_file.save(palette(model, sigmas=torch.tensor(levels(model))), "one")
    with safe_open(path, framework="pt") as file:
        facts, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
    save_file(tensors, path, metadata=facts)
    palette_file.load(path.name)
    facts["tokens"] = facts["tokens"].replace("16", "15")
    save_file(tensors, path, metadata=facts)
    with pytest.raises(
        ValueError,
        match=r"expected a complete palette, got .*missing or wrong .features of as many tokens as when",
    ):
        palette_file.load(path.name)


def test_a_palettes_file_says_what_is_in_it(output):
    import safetensors

    model = model_of()
    given = palette(model, sigmas=torch.tensor(levels(model)))
    with safetensors.safe_open(palette_file.save(given, "one"), framework="pt") as file:
        facts = file.metadata()
    described = json.loads(facts["palette"])
    assert (described["family"], tuple(described["blocks"])) == (given.family, given.blocks)
    assert {round(entry[-1], 3) for entry in json.loads(facts["features"])} == {round(s, 3) for s in levels(model)[:-1]}
    assert json.loads(facts["mask_pixels"]) == [int(square().sum())]
    (counts,) = json.loads(facts["tokens"])
    assert set(counts.values()) == {16} and len(counts) == 3  # a quarter of 8 x 8
