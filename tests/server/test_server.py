"""The pack in a real ComfyUI: its nodes are listed, documented and executed over HTTP."""

import importlib.resources
import io
import json
import urllib.error
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
from likeness.demo.launcher.client import Interrupted
from likeness.demo.world.subjects import SUBJECTS
from likeness.nodes import node_classes
from likeness.tests import workflows
from likeness.tests.server.prompts import only
from likeness.tests.workflows import SHORT
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


IDS = [node.GET_SCHEMA().node_id for node in node_classes()]


WORKFLOWS = workflows.NAMES


NAME = next(iter(SUBJECTS))


SAMPLERS = (
    *("KSampler", "StepBlendedSampler", "SamplerCustomAdvanced", "LayoutTemplate", "JointImageSampler"),
    "LikenessSampler",
)


def test_every_node_is_listed(client):
    listed = client.object_info()
    for node in IDS:
        assert listed[node]["python_module"] == "custom_nodes.likeness"
        assert listed[node]["category"].startswith("Likeness")
        assert listed[node]["description"]
    assert [n for n, found in listed.items() if found["python_module"] == "custom_nodes.likeness"].__len__() == len(IDS)


def test_every_help_page_is_served(client):
    for node in IDS:
        assert client.get(f"/extensions/likeness/docs/{node}.md").decode("utf-8").startswith("# ")


def test_every_workflow_is_a_template(client):
    listed = json.loads(client.get("/workflow_templates"))["likeness"]
    assert sorted(listed) == workflows.TEMPLATES
    for name in listed:
        graph = json.loads(client.get(f"/api/workflow_templates/likeness/{urllib.parse.quote(name)}.json"))
        assert graph["version"] == 0.4 and graph["nodes"]


def test_the_workflows_use_every_node():
    used = {
        e["class_type"]
        for n in WORKFLOWS
        for e in json.loads((ROOT / "workflows" / "api" / f"{n}.json").read_text("utf-8")).values()
    }
    assert set(IDS) <= used


ONE = {("multi_source_attn_swap", "20"): 1}


"""Number of pictures of nodes that do not make two."""


WIDE = {("two_subjects", "42"): 256}


"""Width of pictures that are not square."""


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_runs(client, workflow, name):
    prompt = workflow(name)
    if name == "pick_and_draw":  # as shipped
        only(prompt, "AppearancePalette")["source"] = "inverted"
    steps = []
    result = client.run(prompt, steps.append)
    for node, entry in prompt.items():
        if entry["class_type"] == "SaveImage":
            images = [np.asarray(Image.open(io.BytesIO(client.image(record)))) for record in result.images(node)]
            shape = (128, WIDE.get((name, node), 128), 3)
            assert len(images) == ONE.get((name, node), 2) and all(image.shape == shape for image in images)
            assert len(images) == 1 or not np.array_equal(*images), "two noises gave one picture"
        if entry["class_type"] == "PreviewAny":
            assert result.text(node).strip() not in ("", "None")
    if name == "segment":  # nothing is sampled there
        assert result.images("30")
        return
    sampled = [p for p in steps if p.kind in SAMPLERS and p.maximum]
    # An inversion before the run counts its own levels.
    assert sampled and sampled[-1].value == sampled[-1].maximum == SHORT["steps"]


def test_reference_pictures_arrive_whole(client, workflow, pack):
    prompt = workflow("demo_subject")
    records = client.run(prompt).images("9")
    seen = np.concatenate([np.asarray(Image.open(io.BytesIO(client.image(r)))) for r in records], axis=1)
    with Image.open(pack / "demo" / "weights" / "subjects" / f"{NAME}.png") as strip:
        assert np.array_equal(seen, np.asarray(strip))


def saved_pictures(client, prompt: dict) -> list[bytes]:
    """Pixels of the saved pictures, without the workflow that the files hold as well."""
    return [np.asarray(Image.open(io.BytesIO(client.image(r)))).tobytes() for r in client.run(prompt).images()]


def test_the_map_of_a_word_is_a_mask_and_a_picture(client, workflow):
    prompt = workflow("attention_maps")
    result = client.run(prompt)
    (masks, previews) = (
        [np.asarray(Image.open(io.BytesIO(client.image(r)))) for r in result.images(node)] for node in ("8", "7")
    )
    assert len(masks) == len(previews) == 2
    assert all(mask.shape[:2] == (128, 128) and mask.std() > 1 for mask in masks)
    assert all(preview.shape[1] >= 256 for preview in previews)
    only(prompt, "LikenessAttentionMaps")["word"] = "sea"
    others = [np.asarray(Image.open(io.BytesIO(client.image(r)))) for r in client.run(prompt).images("8")]
    assert not np.array_equal(masks[0], others[0])


def test_the_hosts_own_lora_loader_gives_the_same_model(client, workflow):
    prompt = workflow("demo_subject")
    del prompt["9"]
    ours = saved_pictures(client, prompt)
    loader = {"lora_name": f"{NAME}.safetensors", "strength_model": 1.0, "model": ["1", 0]}
    prompt["20"] = {"class_type": "LoraLoaderModelOnly", "inputs": loader}
    only(prompt, "KSampler")["model"] = ["20", 0]
    assert saved_pictures(client, prompt) == ours
    loader["strength_model"] = 0.0
    assert saved_pictures(client, prompt) != ours


def test_the_embedding_works_by_name(client, workflow):
    prompt = workflow("demo_model")
    texts = [entry["inputs"] for entry in prompt.values() if entry["class_type"] == "CLIPTextEncode"]
    texts[0]["text"] = "a photo of a fish"
    plain = saved_pictures(client, prompt)
    texts[0]["text"] = f"a photo of a embedding:{NAME} fish"
    assert saved_pictures(client, prompt) != plain


def test_the_model_can_be_saved_as_a_checkpoint(client, host):
    prompt = {
        "1": {"class_type": "LikenessDemoModel", "inputs": {}},
        "2": {
            "class_type": "CheckpointSave",
            "inputs": {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "filename_prefix": "tinyland"},
        },
    }
    client.run(prompt)
    (file,) = (host.base / "output").glob("tinyland*.safetensors")
    assert file.stat().st_size > 1e6


def test_a_picture_can_be_encoded_and_denoised_again(client, workflow):
    prompt = workflow("demo_subject")
    prompt["20"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["2", 1], "vae": ["1", 2]}}
    only(prompt, "KSampler").update(latent_image=["20", 0], denoise=0.5)
    assert len(client.run(prompt).images("8")) == 4


def test_every_sampler_and_scheduler_runs(client, workflow):
    """Runs every sampler with one scheduler each, so that every scheduler is used."""
    info = client.object_info()["KSampler"]["input"]["required"]
    names, schedulers = info["sampler_name"][0], info["scheduler"][0]
    assert len(names) > len(schedulers) > 5
    prompt = workflow("demo_model")
    sampler, last = only(prompt, "KSampler"), max(map(int, prompt))
    only(prompt, "EmptyLatentImage").update(batch_size=1, width=64, height=64)
    for i, name in enumerate(names):
        numbers = [str(last + 1 + 3 * i + k) for k in range(3)]
        settings = {**sampler, "sampler_name": name, "scheduler": schedulers[i % len(schedulers)], "steps": 3}
        prompt[numbers[0]] = {"class_type": "KSampler", "inputs": settings}
        prompt[numbers[1]] = {"class_type": "VAEDecode", "inputs": {"samples": [numbers[0], 0], "vae": ["1", 2]}}
        prompt[numbers[2]] = {"class_type": "PreviewImage", "inputs": {"images": [numbers[1], 0]}}
    result = client.run(prompt)
    for i, name in enumerate(names):
        pixels = np.asarray(Image.open(io.BytesIO(client.image(result.images(str(last + 3 + 3 * i))[0]))))
        assert pixels.std() > 0, f"{name} with {schedulers[i % len(schedulers)]} gave an empty picture"


# That modes agree under each of these settings is tested without a server.
@pytest.mark.parametrize(
    ("mode", "changes"),
    [("banked", {"sampler_name": "heun"}), ("sequential", {"cfg": 1.0}), ("batched", {"sampler_name": "dpmpp_2m"})],
    ids=str,
)
def test_retouch_in_every_mode(client, workflow, mode, changes):
    prompt = workflow("layout_and_retouch")
    prompt["17"]["inputs"]["mode"] = mode
    prompt["18"]["inputs"].update(changes)
    prompt["8"]["inputs"]["sampler"] = prompt["18"]["inputs"]["sampler_name"]
    images = [np.asarray(Image.open(io.BytesIO(client.image(r)))) for r in client.run(prompt).images("20")]
    assert len(images) == 2 and not np.array_equal(*images)


@pytest.mark.parametrize(
    ("name", "width", "height"), [("chelsea.png", 451, 300), ("coffee.png", 203, 137), ("rocket.jpg", 131, 200)]
)
def test_a_photograph_of_odd_size_as_reference(client, workflow, host, name, width, height):
    photograph = Image.open(str(importlib.resources.files("skimage") / "data" / name))
    photograph.resize((width, height)).save(host.base / "input" / "photo.png")
    prompt = workflow("layout_and_retouch")
    prompt["40"] = {"class_type": "LoadImage", "inputs": {"image": "photo.png"}}
    prompt["11"]["inputs"]["image"] = ["40", 0]  # the mask is made from its latent
    assert len(client.run(prompt).images("20")) == 2


@pytest.mark.parametrize(("name", "sampler"), [("step_blended_sampler", "7"), ("layout_template", "18")])
def test_interrupt_ends_a_run_and_the_server_keeps_serving(client, workflow, name, sampler):
    prompt = workflow(name)
    settings = prompt[sampler]["inputs"]
    settings |= {k: v for k, v in {"steps": 2000, "switch_step": 1000}.items() if k in settings}
    seen = []

    def interrupt(progress):
        if progress.node == sampler and progress.value:
            seen.append(progress.value)
            if len(seen) == 2:
                client.interrupt()

    with pytest.raises(Interrupted):
        client.run(prompt, interrupt)
    assert len(seen) >= 2 and seen[-1] < 1000
    assert client.run(workflow(name)).images()


def test_a_run_that_takes_too_long_is_given_up(client, workflow):
    prompt = workflow("demo_model")
    only(prompt, "KSampler")["steps"] = 5000
    with pytest.raises(TimeoutError, match="1 s"):
        client.run(prompt, timeout=1.0)
    prompt = workflow("demo_model")
    assert client.run(prompt).images()


def test_unknown_paths_are_errors(client):
    with pytest.raises(urllib.error.HTTPError):
        client.get("/extensions/likeness/docs/NoSuchNode.md")
