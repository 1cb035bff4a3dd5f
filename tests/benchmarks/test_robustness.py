"""The benchmark of other samplers, steps and threads, on random weights, and the functions that decide its numbers."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from likeness.benchmarks import generate, grid, robustness
from likeness.benchmarks.bases import LORA, VANILLA
from likeness.benchmarks.layout_and_retouch import TUNED
from likeness.demo.world.subjects import SUBJECTS
from likeness.tests.benchmarks.cells import files_of, kept_in

FEW_STEPS = generate.Settings(steps=2)
FIRST = next(iter(SUBJECTS.values()))
SMALL = grid.Grid((FIRST,), prompts=1, seeds=2)


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    monkeypatch.setenv("LIKENESS_CACHE", str(tmp_path))
    monkeypatch.setattr(generate, "Settings", lambda: FEW_STEPS)
    monkeypatch.setattr(robustness, "QUICK", robustness.Amounts(SMALL, 1))
    monkeypatch.setattr(robustness, "SAMPLERS", (("euler", 25), ("dpmpp_2m", 2)))
    monkeypatch.setattr(robustness, "THREADS", (1, 2))


@pytest.mark.usefixtures("random_judge")
def test_quick_run(random_weights, monkeypatch):
    values = {("euler", 25): 1.0, ("dpmpp_2m", 2): -1.0}

    def signs(_weights, settings, part, _eye):
        value = values[settings.sampler, settings.steps]
        return {"retouch_sign": np.full((1, part.prompts, part.seeds), value)}

    def drawn(_weights, _subject, count):
        levels = {"plain": 0, "layout-and-retouch": 10 * torch.get_num_threads(), "pick-and-draw": 3, "jedi": 4}
        return {method: np.full((count, 128, 128, 3), level, np.uint8) for method, level in levels.items()}

    monkeypatch.setattr(robustness, "signs", signs)
    monkeypatch.setattr(robustness, "drawn", drawn)
    with torch.inference_mode():
        result = robustness.run(True, random_weights)
    data = json.loads(json.dumps(result.as_dict()))
    assert data["rows"][1] == {"name": "dpmpp_2m, 2 steps: retouch_sign", "difference": [-1.0, -1.0, -1.0]}
    assert data["figures"]["euler_25_retouch_sign_low"] == 1 and data["figures"]["same_signs"] == 0
    for method, apart in (("plain", 0), ("layout_and_retouch", 10), ("pick_and_draw", 0), ("jedi", 0)):
        assert data["figures"][f"threads_2_{method}_mean_difference"] == apart
        assert data["figures"][f"threads_2_{method}_largest_difference"] == apart
        assert data["figures"][f"threads_2_{method}_equal"] == (apart == 0)
    assert {name for name in result.targets if "_4_" not in name} <= set(data["figures"])


def test_all_papers_have_their_signs_with_another_sampler(random_weights, random_judge, monkeypatch, tmp_path):
    monkeypatch.setattr(robustness, "SAMPLERS", (("dpmpp_2m", 2),))
    monkeypatch.setattr(robustness, "RETOUCHED_BASES", (LORA,))
    monkeypatch.setattr(robustness, "GUIDED_BASES", (VANILLA,))
    monkeypatch.setattr(robustness, "SETS", ("text_only", "joint_1"))
    settings = replace(FEW_STEPS, sampler="dpmpp_2m")
    with torch.inference_mode():
        found = robustness.signs(random_weights, settings, SMALL, random_judge)
    wanted = ("retouch_lora_identity_v_above_i", "guidance_vanilla_appearance_identity_gain")
    assert {*wanted, "joint_identity_joint_1_above_text_only"} <= set(found)
    assert all(np.isfinite(values).all() and values.shape[:2] == (1, 1) for values in found.values())
    assert kept_in(tmp_path) == files_of(robustness.sweeps(True, random_weights)) != set()


def test_every_method_is_drawn_for_the_comparison_of_threads(random_weights):
    with torch.inference_mode():
        made = robustness.drawn(random_weights, FIRST, 1)
    assert tuple(made) == robustness.METHODS and len({pictures.tobytes() for pictures in made.values()}) == len(made)
    assert all(pictures.shape == (1, 128, 128, 3) for pictures in made.values())


def test_threads_are_set_and_given_back():
    before = torch.get_num_threads()
    with robustness.threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_steps_are_the_same_parts_of_a_shorter_run():
    recipe = TUNED[LORA].at_steps(50)
    assert (recipe.switch_step, recipe.lambda_2, recipe.alone_from) == (16, 18, 16)
    assert TUNED[LORA].at_steps(25) == TUNED[LORA] and TUNED[LORA].at_steps(1).lambda_3 == 1


def test_signs_count_where_the_default_is_clear_of_zero():
    def figures(other):
        clear = {"euler_25_a": 1.0, "euler_25_a_low": 0.5, "euler_25_a_high": 1.5}
        unclear = {"euler_25_b": 1.0, "euler_25_b_low": -0.5, "euler_25_b_high": 1.5}
        return clear | unclear | {"dpmpp_2m_2_a": other, "dpmpp_2m_2_b": -1.0}

    assert robustness.same_signs(figures(0.1)) == 1 and robustness.same_signs(figures(-0.1)) == 0
    assert robustness.same_signs({"euler_25_a": 0.0, "euler_25_a_low": -1.0, "euler_25_a_high": 1.0}) is None
