"""Bundled methods on transformers, whose text encoders and VAE are files of their own."""

import json

import pytest
from likeness.lab.evaluate import command, templates
from likeness.lab.evaluate import plan as plans
from likeness.lab.evaluate.separate import ENCODERS, Separate
from likeness.patching.layout_and_retouch.settings import RetouchSettings
from likeness.patching.subject import sampler_families
from likeness.tests import workflows
from likeness.tests.lab.evaluate.test_command import files, plan
from likeness.tests.patching.tiny_dits import tiny_dit

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


VALUES = {"source": "noised", "mode": "sequential", "attention": "append", "record_blocks": ""}
"""Values of inputs that suit transformers."""


def chosen(graph) -> set[tuple[str, str, str]]:
    """Node, input and value of everything that a reference is borrowed by, but for the mask's attention."""
    kinds = ("LikenessReference", "AppearancePalette", "MultiSourceAttnSwap", "StepBlendedSampler")
    nodes = [node for node in graph.values() if node["class_type"] in kinds]
    return {
        (node["class_type"], name, node["inputs"][name]) for node in nodes for name in VALUES if name in node["inputs"]
    }


@pytest.mark.parametrize("name", ON_CHECKPOINTS)
@pytest.mark.parametrize("encoders", [0, 2])
def test_references_are_borrowed_as_suits_transformers(name, encoders):
    before = templates.load(name).graph
    given = json.dumps(before)
    found = chosen(Separate(encoders, "flux").graph(before))
    assert all(value == VALUES[which] for _, which, value in found)
    assert {(kind, which) for kind, which, _ in found} == {(kind, which) for kind, which, _ in chosen(before)}
    assert json.dumps(before) == given


def test_they_are_borrowed_as_by_likeness_sampler():
    """The shipped workflows leave a retouch to it, and their stories have noised references."""
    model = tiny_dit("flux")
    settings = sampler_families.suited(RetouchSettings(), model)
    sampler = {"source": sampler_families.source_of(model), "mode": settings.mode, "attention": settings.attention}
    assert sampler.items() == VALUES.items() - {("record_blocks", "")}
    of_stories = chosen(workflows.api("95 Flux.1 dev - story of four scenes"))
    assert of_stories == {("LikenessReference", "source", VALUES["source"])}


def test_a_workflow_of_the_users_own_keeps_its_values(transformer, tmp_path):
    """But for presets of blocks that transformers do not have."""
    graph = templates.load("layout-and-retouch").graph
    (tmp_path / "mine.json").write_text(json.dumps(graph))
    bundled, own = (plan(transformer, methods=name) for name in ("layout-and-retouch", str(tmp_path / "mine.json")))
    made, kept = (of.graph(next(iter(of.jobs()))) for of in (bundled, own))
    assert chosen(kept) == chosen(graph) and not chosen(made) & chosen(graph)
    assert made["13"]["inputs"] == kept["13"]["inputs"] and kept["13"]["inputs"]["blocks"] == "late"
    assert made["13"]["inputs"]["attention"] == graph["13"]["inputs"]["attention"]


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
