"""The command line: plans from real files, and everything that a user can name wrongly."""

import json
import re
import subprocess
import sys

import pytest
from likeness.demo.launcher.files import ROOT
from likeness.lab.evaluate import command
from likeness.lab.evaluate import plan as plans


@pytest.fixture
def files(tmp_path, data):
    """Arguments of a plan that is right."""
    (tmp_path / "loras").mkdir()
    for name in ("nemo", "taxi"):
        (tmp_path / "loras" / f"{name}.safetensors").write_bytes(name.encode())
    (tmp_path / "sd15.safetensors").write_bytes(b"weights")
    return {
        "--protocol": "own",
        "--data": str(data),
        "--methods": "lora,vanilla",
        "--checkpoint": str(tmp_path / "sd15.safetensors"),
        "--loras": str(tmp_path / "loras"),
        "--out": str(tmp_path / "out"),
    }


def plan(arguments, **changes):
    named = {**arguments, **{f"--{key.replace('_', '-')}": value for key, value in changes.items()}}
    command.main(["plan", *(part for key, value in named.items() if value is not None for part in (key, value))])
    return plans.read(plans.Path(named["--out"]))


def test_a_plan_tells_what_it_draws(files, capsys, tmp_path):
    made = plan(files, dials="lora=0.4,0.8", images_per_prompt="3")
    said = capsys.readouterr().out
    assert (
        "2 subjects, 3 rows, 36 pictures" in said and "lora@0.4: 12 pictures" in said and "Time: not measured" in said
    )
    assert made.facts["files"] == {"checkpoint": "sd15.safetensors"}
    assert made.facts["folders"]["checkpoints0"] == str(tmp_path) and "loras" in made.facts["folders"]
    weights = made.facts["weights"]
    assert len({weights["checkpoint"], *weights["lora"].values()}) == 3 and set(weights["lora"]) == {"nemo", "taxi"}


def test_another_lora_makes_its_pictures_anew(files, tmp_path):
    before = plan(files)
    (tmp_path / "loras" / "nemo.safetensors").write_bytes(b"other")
    after = plan(files)
    same = [before.key(job) == after.key(job) for job in after.jobs()]
    assert same == [job.subject == "taxi" or job.row == "vanilla" for job in after.jobs()]


def test_loras_of_no_subject_are_named(files, tmp_path, capsys):
    (tmp_path / "loras" / "koi.safetensors").write_bytes(b"x")
    plan(files)
    assert "has files that fit no subject of the plan, and are not used: koi." in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"protocol": "dream"}, "There is no protocol dream: use one of"),
        ({"methods": "lora,mine"}, "There is no method mine: use"),
        ({"checkpoint": ""}, "need a checkpoint: name it with --checkpoint"),
        ({"checkpoint": "none.safetensors"}, "There is no checkpoint none.safetensors, also not in"),
        ({"loras": None}, "need a file for each subject, and --loras is not given"),
        ({"loras": "nowhere"}, "--loras is nowhere"),
        ({"only": "koi"}, "no folder with photos of koi"),
        ({"dials": "lora"}, "--dials has 'lora', expected METHOD=NUMBER"),
        ({"dials": "lora=strong"}, "--dials has 'lora=strong'"),
        ({"images_per_prompt": "0"}, "has images_per_prompt 0"),
        ({"methods": "jedi"}, "name it with --joint-checkpoint"),
        ({"methods": "textual-inversion"}, "--embeddings is not given"),
        ({"data": "nowhere"}, "The data folder nowhere is not there"),
    ],
)
def test_a_wrong_name_is_one_sentence(files, changes, sentence):
    with pytest.raises(SystemExit, match=f"^evaluate: .*{sentence}"):
        plan(files, **changes)


def test_a_subject_without_its_lora_is_one_sentence(files, tmp_path):
    (tmp_path / "loras" / "taxi.safetensors").unlink()
    with pytest.raises(SystemExit, match=r"has no taxi\.safetensors, and 1 of 2 subjects lack theirs: add"):
        plan(files)
    assert not (tmp_path / "out" / "plan.json").exists()


def test_names_of_a_server_are_not_checked(files, tmp_path):
    arguments = [part for key, value in files.items() if key != "--loras" for part in (key, value)]
    command.main(["plan", *arguments, "--remote", "--checkpoint", "there.safetensors"])
    assert plans.read(tmp_path / "out").facts["files"] == {"checkpoint": "there.safetensors"}


def test_a_server_that_does_not_answer_is_one_sentence(files, tmp_path):
    plan(files)
    with pytest.raises(SystemExit, match=r"^evaluate: No ComfyUI answers at 127.0.0.1:9 .*: start it"):
        command.main(["generate", str(tmp_path / "out"), "--server", "127.0.0.1:9"])


@pytest.mark.parametrize(
    ("arguments", "gpu", "sentence"),
    [
        (["--cpu"], True, "ComfyUI draws on the CPU, because --cpu is given."),
        ([], False, r"ComfyUI draws on the CPU, because torch [\w.+]+ finds no GPU"),
        ([], True, "ComfyUI draws on the GPU."),
    ],
)
def test_the_device_of_the_drawing_is_told(files, tmp_path, monkeypatch, capsys, arguments, gpu, sentence):
    plan(files)
    used = []
    monkeypatch.setattr(command.device, "has_gpu", lambda: gpu)
    monkeypatch.setattr(command.farm, "crew", lambda *_, cpu: used.append(cpu))
    monkeypatch.setattr(command.steps, "draw", lambda _plan, crew, *_: crew())
    command.main(["generate", str(tmp_path / "out"), *arguments])
    assert re.search(sentence, capsys.readouterr().out) and used == [not gpu or bool(arguments)]


@pytest.mark.parametrize("gpu", [False, True])
def test_the_device_of_the_metrics_is_told(files, tmp_path, monkeypatch, capsys, gpu):
    plan(files)
    given = []
    monkeypatch.setattr(command.device.torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(command.device.torch.cuda, "get_device_name", lambda: "Card")
    monkeypatch.setattr(command.steps, "scored", lambda *arguments: given.append(arguments[-1].device))
    command.main(["score", str(tmp_path / "out")])
    said = capsys.readouterr().out
    assert ("on the GPU Card" if gpu else "on the CPU, because torch") in said and given == ["cuda" if gpu else "cpu"]


def test_a_segmenter_needs_a_detector(files, tmp_path):
    plan(files)
    with pytest.raises(SystemExit, match="--sam segments inside the boxes of a detector: name one with --detector"):
        command.main(["score", str(tmp_path / "out"), "--sam", "sam.pth"])


def test_a_step_is_needed(capsys):
    with pytest.raises(SystemExit):
        command.main([])
    assert "name a step" in capsys.readouterr().err
    with pytest.raises(SystemExit, match=r"has no plan\.json"):
        command.main(["score", "nowhere"])


def test_the_plan_of_the_smoke_test_uses_the_demo_model(tmp_path):
    made = command.smoke.make(tmp_path / "out")
    kinds = {node["class_type"] for job in made.jobs() for node in made.graph(job).values()}
    assert {"LikenessDemoModel", "LikenessDemoJointModel", "MultiSourceAttnSwap", "UREMDGuidance"} <= kinds
    assert "CheckpointLoaderSimple" not in kinds and json.dumps(made.facts)


def test_the_command_starts_where_there_is_no_gpu():
    """In a process of its own, since this one has chosen ComfyUI's device already."""
    words = [sys.executable, str(ROOT / "demo" / "launcher" / "launch.py"), "evaluate", "score", "nowhere"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert ended.stderr.splitlines()[-1].startswith("evaluate: nowhere has no plan.json"), ended.stderr
