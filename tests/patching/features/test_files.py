"""References and layouts as files: what comes back is what was kept, and what is refused."""

import json
import math
from dataclasses import replace

import pytest
import torch
from likeness.patching.features import reference_file as saved_references
from likeness.patching.features import trajectory_file as saved_trajectories
from likeness.patching.features.bank import digest_of
from likeness.patching.features.lending import BANKED
from likeness.patching.features.references import INVERTED, NOISED, References
from likeness.patching.features.trajectory import Trajectory
from likeness.patching.host.files import conditioning_of
from likeness.patching.layout_and_retouch.build import retouch
from likeness.patching.layout_and_retouch.settings import APPEND, FORK, NONE, RetouchSettings
from likeness.tests.patching.layout_and_retouch.retouch_runs import (
    NEGATIVE,
    STEPS,
    counting,
    disc,
    layout,
    levels,
    reference,
    run,
)
from likeness.tests.patching.tiny_models import conditioning, tiny_model
from likeness.tests.patching.two_models import add_lora
from safetensors import safe_open
from safetensors.torch import save_file


@pytest.fixture
def output(tmp_path, monkeypatch):
    monkeypatch.setattr("folder_paths.output_directory", str(tmp_path))
    return tmp_path / "likeness"


@pytest.mark.parametrize("kind", [NOISED, INVERTED])
def test_a_saved_reference_gives_the_same_picture(output, family, kind):
    model = tiny_model(family)
    subject = disc()[0]
    given = References((reference(model, kind=kind, mask=subject), reference(model, 21, kind=kind, weight=2.0)))
    settings = RetouchSettings(early_swap=NONE, lambda_2=0, lambda_3=STEPS, attention=APPEND, mode=BANKED)
    expected = run(retouch(model, given, None, None, settings))
    saved_references.fill(given, model, torch.tensor(levels(model)), "paper", conditioning(model, seed=NEGATIVE))
    path = saved_references.save(given, "subject")
    assert path.parent == output and saved_references.STORE.names() == [path.name]
    loaded = saved_references.load(path.name)
    size = [item.bank.size_in_bytes for item in loaded.items]
    assert all(size)
    counted, calls = counting(retouch(model, loaded, None, None, settings))
    torch.testing.assert_close(run(counted), expected, rtol=1e-3, atol=1e-3)
    assert [item.bank.size_in_bytes for item in loaded.items] == size and calls == [2] * STEPS


@pytest.mark.parametrize("tokens", [7, 13])
def test_both_sides_are_kept_also_of_texts_that_cannot_share_a_call(tokens):
    model = tiny_model("sd1")
    item, negative = reference(model, tokens=tokens), conditioning(model, seed=NEGATIVE)
    saved_references.fill(References((item,)), model, torch.tensor(levels(model)), "output3", negative)
    found = {(key.conditional, key.negative_digest, sigma) for key, sigma, _ in item.bank.items()}
    wanted = [s for s in levels(model) if s > 0]
    assert len(found) == 2 * len(wanted)
    assert {(conditional, digest) for conditional, digest, _ in found} == {(True, ""), (False, digest_of(negative))}


def test_prompts_of_another_family_are_not_kept():
    model, other = tiny_model("sd1"), [[torch.randn(1, 7, 32), {}]]
    item = reference(model, kind=INVERTED)
    cases = (References((item,)), other), (References((replace(item, conditioning=other),)), None)
    for given, negative in cases:
        with pytest.raises(ValueError, match=r"Save Reference: expected a .* made with this model's own text encoder"):
            saved_references.fill(given, model, torch.tensor(levels(model)), "paper", negative)
    assert not item.inversions


def test_a_reference_of_the_first_files(output):
    """Their features are of the references' own prompts alone."""
    model, given = tiny_model("sd1"), References((reference(tiny_model("sd1")),))
    saved_references.fill(given, model, torch.tensor(levels(model)), "paper")
    tensors, facts = saved_references.parts_of(given)
    facts["features"] = json.dumps([entry[:6] + entry[7:] for entry in json.loads(facts["features"])])
    (loaded,) = saved_references.references_of(tensors, facts).items
    assert [key for key, _, _ in loaded.bank.items()] == [key for key, _, _ in given.items[0].bank.items()]


def test_a_saved_layout_is_followed_like_the_first(output, family):
    model = tiny_model(family)
    picture, trajectory = layout(model, record="all")
    settings = RetouchSettings(early_swap=FORK, lambda_2=2, lambda_3=STEPS, mode=BANKED)
    items = References((reference(model),))
    expected = run(retouch(model, items, trajectory, None, settings))
    path = saved_trajectories.save(trajectory, "layout")
    assert path.parent == output.parent / "likeness_trajectories"
    loaded = saved_trajectories.load(path.name)
    assert loaded.sampler == trajectory.sampler == "euler" and loaded.switch_sigma == trajectory.switch_sigma
    assert loaded.sigmas == trajectory.sigmas and loaded.size_in_bytes == trajectory.size_in_bytes
    assert torch.equal(run(retouch(model, items, loaded, None, settings)), expected)
    whole = replace(settings, lambda_2=len(loaded), lambda_3=len(loaded))
    torch.testing.assert_close(run(retouch(model, items, loaded, None, whole)), picture, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("switch", [0, STEPS])
def test_a_layout_of_one_model_alone_is_loaded(output, switch):
    model = tiny_model("sd1")
    trajectory = layout(model, add_lora(model), switch=switch)[1]
    path = saved_trajectories.save(trajectory, "layout")
    assert math.isinf(trajectory.switch_sigma)
    assert saved_trajectories.load(path.name).switch_sigma == trajectory.switch_sigma


def test_a_trajectory_of_the_first_files(output):
    """They do not say what sampled them, and where it switched."""
    path = saved_trajectories.save(layout(tiny_model("sd1"))[1], "layout")
    with safe_open(path, framework="pt") as file:
        tensors, facts = {k: file.get_tensor(k) for k in file.keys()}, file.metadata()  # noqa: SIM118 - not a mapping
    del facts["sampler"], facts["switch_sigma"]
    save_file(tensors, path, metadata=facts)
    loaded = saved_trajectories.load(path.name)
    assert loaded.sampler == "" and loaded.switch_sigma == math.inf


def test_a_trajectory_that_cannot_be_kept(output):
    model = tiny_model("sd1")
    with pytest.raises(ValueError, match="Save Layout: expected a trajectory with model calls"):
        saved_trajectories.save(Trajectory((), ()), "layout")
    trajectory = layout(model)[1]
    areas = [[text, {**rest, "area": (8, 8, 0, 0)}] for text, rest in trajectory.positive]
    with pytest.raises(ValueError, match="Save Layout: expected a plain prompt"):
        saved_trajectories.save(replace(trajectory, positive=areas), "layout")
    assert not list(output.parent.rglob("*.tmp"))


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_prompts_numbers_are_finite(number):
    texts = {"0.text": torch.zeros(1, 7, 8)}
    assert conditioning_of("0", texts, {"guidance": 3.5}, "Node")[0][1] == {"guidance": 3.5}
    with pytest.raises(ValueError, match=f"guidance of a prompt is {number}"):
        conditioning_of("0", texts, {"guidance": number}, "Node")


def test_a_file_of_the_other_kind_is_refused(output):
    model = tiny_model("sd1")
    path = saved_references.save(References((reference(model),)), "subject")
    target = output.parent / "likeness_trajectories" / path.name
    target.parent.mkdir()
    path.rename(target)
    with pytest.raises(ValueError, match="expected a trajectory of version 1, got another kind of file"):
        saved_trajectories.load(path.name)


@pytest.mark.parametrize(
    "name", ["../../secret.safetensors", "/etc/passwd", "missing.safetensors", "..\\x.safetensors"]
)
def test_no_name_leads_out_of_the_folder(output, name):
    output.mkdir()
    (output.parent / "secret.safetensors").write_bytes(b"x")
    with pytest.raises(FileNotFoundError, match="saved reference"):
        saved_references.load(name)


@pytest.mark.parametrize("damage", ["truncated", "other", "incomplete"])
def test_damaged_files_are_refused(output, damage):
    model = tiny_model("sd1")
    given = References((reference(model),))
    path = saved_references.save(given, "subject")
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:100])
    elif damage == "other":
        save_file({"x": torch.zeros(1)}, path)
    else:
        facts = {"format": "likeness_reference", "version": "1", "items": json.dumps([{}]), "features": "[]"}
        save_file({"x": torch.zeros(1)}, path, metadata=facts)
    with pytest.raises(ValueError, match="Load Reference: expected"):
        saved_references.load(path.name)
