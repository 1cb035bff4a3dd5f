"""Bundled methods on transformers, whose text encoders and VAE are files of their own."""

import json

import pytest
from likeness.lab.evaluate import command, templates
from likeness.lab.evaluate import plan as plans
from likeness.lab.evaluate.separate import ENCODERS, Separate
from likeness.tests import workflows
from likeness.tests.lab.evaluate.test_command import files, plan

__all__ = ["files"]
ON_CHECKPOINTS = [name for name in templates.names() if "checkpoint" in templates.load(name).names]
SHIPPED = {1: "91 Z-Image Turbo - your photos in new scenes", 2: "95 Flux.1 dev - your photos in new scenes"}


@pytest.mark.parametrize("name", ON_CHECKPOINTS)
@pytest.mark.parametrize("encoders", [1, 2, 3])
def test_a_method_loads_separate_files_in_place_of_a_checkpoint(name, encoders):
    before, separate = templates.load(name), Separate(encoders, "flux")
    graph = separate.graph(before.graph)
    made = templates.parsed(name, graph)
    assert made.names == before.names - {"checkpoint"} | {"network", "vae", *ENCODERS[:encoders]}
    links = [value for node in graph.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert all(node in graph for node, _ in links)
    assert not any(node["class_type"] == "CheckpointLoaderSimple" for node in graph.values())
    decoders = {graph[node]["class_type"] for node, output in links if graph[node]["class_type"] == "VAELoader"}
    assert decoders and "decoder" not in json.dumps([node["inputs"] for node in graph.values()])


@pytest.mark.parametrize("encoders", SHIPPED)
def test_the_loaders_are_those_of_the_shipped_workflows(encoders):
    shipped = {node["class_type"]: node for node in workflows.api(SHIPPED[encoders]).values()}
    graph = Separate(encoders, "flux").graph({"1": {"class_type": "CheckpointLoaderSimple", "inputs": {}}})
    for node in graph.values():
        assert node["inputs"].keys() == shipped[node["class_type"]]["inputs"].keys() - {"device"}


@pytest.fixture
def transformer(files, tmp_path):
    """Arguments of a plan for Flux.1."""
    for name in ("flux1-dev", "clip_l", "t5xxl", "ae"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
    return files | {
        "--checkpoint": None,
        "--network": str(tmp_path / "flux1-dev.safetensors"),
        "--text-encoders": f"{tmp_path / 'clip_l.safetensors'},{tmp_path / 't5xxl.safetensors'}",
        "--clip-type": "flux",
        "--vae": str(tmp_path / "ae.safetensors"),
    }


def test_a_plan_names_and_hashes_every_file(transformer, tmp_path):
    made = plan(transformer, methods="layout-and-retouch,vanilla")
    names = {"network": "flux1-dev", "text_encoder": "clip_l", "text_encoder_2": "t5xxl", "vae": "ae"}
    assert made.facts["files"] == {slot: f"{name}.safetensors" for slot, name in names.items()}
    assert {made.facts["weights"].pop(slot) for slot in names} and set(made.facts["weights"]) == {"lora"}
    kinds = {key.rstrip("0123456789") for key in made.facts["folders"]}
    assert kinds == {"models", "loras", "diffusion_models", "text_encoders", "vae"}
    graph = made.graph(next(iter(made.jobs())))
    assert graph["1"]["inputs"] == {"unet_name": "flux1-dev.safetensors", "weight_dtype": "default"}
    clip = {"clip_name1": "clip_l.safetensors", "clip_name2": "t5xxl.safetensors", "type": "flux"}
    assert graph["1-clip"]["inputs"] == clip and graph["2"]["inputs"]["clip"] == ["1-clip", 0]
    assert graph["13"]["inputs"]["blocks"] == "late"


def test_a_transformer_in_one_file_keeps_its_loader_and_gets_its_blocks(files):
    arguments = [part for key, value in files.items() for part in (key, value)]
    command.main(["plan", *arguments, "--methods", "layout-and-retouch", "--transformer"])
    made = plans.read(plans.Path(files["--out"]))
    graph = made.graph(next(iter(made.jobs())))
    assert graph["1"]["inputs"] == {"ckpt_name": "sd15.safetensors"} and graph["13"]["inputs"]["blocks"] == "late"


def test_a_joint_checkpoint_needs_none_of_the_files(transformer, tmp_path):
    (tmp_path / "joint.safetensors").write_bytes(b"joint")
    joint = {"--joint-checkpoint": str(tmp_path / "joint.safetensors"), "--vae": None}
    assert plan(transformer | joint, methods="jedi").facts["files"] == {"joint_checkpoint": "joint.safetensors"}


def test_another_file_makes_all_pictures_anew(transformer, tmp_path):
    before = plan(transformer, methods="vanilla")
    (tmp_path / "t5xxl.safetensors").write_bytes(b"other")
    after = plan(transformer, methods="vanilla")
    assert not {before.key(job) for job in before.jobs()} & {after.key(job) for job in after.jobs()}
    assert plans.read(tmp_path / "out").facts == after.facts


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"checkpoint": "sd15.safetensors"}, "--network and --checkpoint are both given: leave one of them out"),
        ({"network": None}, "--text-encoders is for a network in a file of its own: name that with --network"),
        ({"text_encoders": None}, "--text-encoders names 0 files, and ComfyUI loads one to three"),
        ({"text_encoders": "a,b,c,d"}, "--text-encoders names 4 files"),
        ({"clip_type": None}, "--clip-type is missing: name the type of CLIP Loader"),
        ({"vae": None}, "need a VAE: name it with --vae"),
        ({"network": "none.safetensors"}, "There is no network none.safetensors, also not in .*diffusion_models"),
    ],
)
def test_a_wrong_option_is_one_sentence(transformer, changes, sentence):
    with pytest.raises(SystemExit, match=f"^evaluate: .*{sentence}"):
        plan(transformer, **changes)
