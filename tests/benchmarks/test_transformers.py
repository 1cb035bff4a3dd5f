"""The benchmark of the demo transformer, on random weights and a random judge."""

import json
import math

import numpy as np
import pytest
import torch
from likeness.benchmarks import generate, transformers, transformers_comparison, transformers_costs
from likeness.benchmarks.timing import Timing
from likeness.demo.training import transformer as trainer
from likeness.demo.training.loop import write_weights
from likeness.patching.host.dit_hook import Hook
from likeness.patching.tinyland import subject as demo_subject
from likeness.patching.tinyland import transformer
from likeness.tests.benchmarks.cells import files_of, kept_in

pytestmark = pytest.mark.usefixtures("random_judge")
ENDS = ("", "_low", "_high")
FIGURES = (
    "idle_ratio",
    "banked_append_ratio",
    "identity_append_above_plain",
    "identity_joint_above_uncoupled",
    "identity_guided_above_plain",
    "layout_blended_above_lora",
)


@pytest.fixture
def trained(random_weights, monkeypatch):
    """The folder with a random transformer of two blocks and a LoRA beside the other weights."""
    monkeypatch.setitem(transformer.TRANSFORMER_CONFIG, "n_layers", 2)
    network = trainer.build(torch.device("cpu"))
    generator = torch.Generator().manual_seed(1)
    state = {k: v + 0.05 * torch.randn(v.shape, generator=generator) for k, v in network.state_dict().items()}
    tensors = {f"model.diffusion_model.{k}": v for k, v in state.items()}
    write_weights(tensors, random_weights / transformer.FILE, {transformer.KIND: "{}"})
    lora = {
        "diffusion_model.layers.1.attention.out.lora_up.weight": torch.randn(256, 4),
        "diffusion_model.layers.1.attention.out.lora_down.weight": torch.randn(4, 256),
    }
    facts = {demo_subject.TRANSFORMER_SUBJECT: json.dumps({"name": "nemo"})}
    write_weights(lora, demo_subject.of_transformer("nemo", random_weights), facts)
    yield random_weights
    (random_weights / transformer.FILE).unlink()
    demo_subject.of_transformer("nemo", random_weights).unlink()


def drawn_of(weights, steps=2):
    settings = generate.Settings(steps=steps, scheduler="simple")
    return transformers_comparison.Drawn(weights, settings, transformers_comparison.Recipe(switch_step=1))


def timings(variants, _seconds):
    """Checks that the idle hook is there and changes nothing, and gives every variant the same times."""
    idle, appended = variants
    seen, called = [], Hook.__call__
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Hook, "__call__", lambda *args, **kwargs: seen.append(1) or called(*args, **kwargs))
        plain, unchanged, changed = (run()[0]["samples"] for run in (idle.reference, idle.sample, appended.sample))
    assert seen and torch.equal(plain, unchanged) and not torch.equal(plain, changed)
    return [Timing(v, [1.0, 0.9, 1.1], [0.0] * 3, [1.0] * 3, 1.0) for v in variants]


def test_every_row_is_drawn_and_every_figure_told(trained, monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(transformers, "Drawn", drawn_of)
    monkeypatch.setattr(transformers_costs, "compare", timings)
    report = transformers.run(True, trained)
    rows = {row["name"]: row for row in report.rows}
    assert tuple(rows) == (*transformers.ROWS, *transformers.PERSONAL_ROWS)
    assert all(math.isfinite(v) for row in rows.values() for key in row if key != "name" for v in row[key])
    for name in FIGURES:
        low, middle, high = (report.figures[f"{name}{end}"] for end in ("_low", "", "_high"))
        assert low <= middle <= high, name
    assert 1 < report.figures["banked_append_flops_ratio"] < 1.5
    assert transformers.TARGETS.keys() <= report.figures.keys()
    places = [f"{method}_{place}" for method in ("append", "joint") for place in ("beside", "index")]
    assert all(f"apart_{place}_above_same_low" in transformers.TARGETS for place in places)
    assert kept_in(tmp_path) == files_of(transformers.sweeps(True, trained)) != set()


def test_each_row_is_another_picture(trained):
    drawn = drawn_of(trained, 3)
    grid = transformers.QUICK.grid
    (subject,), where = grid.subjects, grid.prompts_of(grid.subjects[0])[0]
    names = (*transformers.ROWS, *transformers.PERSONAL_ROWS)
    with torch.inference_mode():
        made = {name: drawn.latents(name, subject, where, [1]) for name in names}
    torch.testing.assert_close(made["uncoupled"], made["plain"], rtol=0.1, atol=0.1)
    found = [latents for name, latents in made.items() if name != "uncoupled"]
    alike = [(i, j) for i in range(len(found)) for j in range(i) if torch.equal(found[i], found[j])]
    assert not alike and all(latents.isfinite().all() for latents in found)


def test_without_weights_it_says_how_to_train_them(random_weights):
    with pytest.raises(FileNotFoundError, match=r"train it with `python run\.py train transformer`\.$"):
        transformers.run(True, random_weights)


def test_pictures_without_a_subject_count_as_the_mean_of_the_others(monkeypatch):
    grid = transformers.QUICK.grid
    centers = [np.array([[0.5, 0.5]]), np.array([[0.5, 0.9], [np.nan, np.nan]])]
    monkeypatch.setattr(transformers, "renders", lambda scenes: np.zeros((1, 128, 128, 3), np.uint8))

    class Eye:
        def look(self, _images):
            return type("Verdict", (), {"center": centers.pop(0)})

    pictures = np.zeros((1, 1, 2, 128, 128, 3), np.uint8)
    np.testing.assert_allclose(transformers.apart(grid, pictures, Eye()), [[[0.4, 0.4]]])
    centers += [np.array([[0.5, 0.5]]), np.full((2, 2), np.nan)]
    assert transformers.apart(grid, pictures, Eye()) is None
