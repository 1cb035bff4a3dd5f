"""The pack in a real ComfyUI: listed, documented, executed over HTTP, and still serving after every bad input."""

import importlib.resources
import io
import json
import threading
import time
import urllib.error
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import torch
from likeness.demo.launcher.client import Interrupted, Rejected
from likeness.demo.world.subjects import SUBJECTS
from likeness.nodes import node_classes
from likeness.tests.server.prompts import failure, only
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
IDS = [node.GET_SCHEMA().node_id for node in node_classes()]
WORKFLOWS = sorted(path.stem for path in (ROOT / "workflows" / "api").glob("*.json"))
NAME = next(iter(SUBJECTS))
SAMPLERS = ("KSampler", "StepBlendedSampler", "SamplerCustomAdvanced", "LayoutTemplate", "JointImageSampler")


class Code:
    """What runs when it is unpickled."""

    def __reduce__(self):
        return (print, ("code ran",))


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
    assert sorted(listed) == WORKFLOWS
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
"""What a workflow makes of one picture, however many there are."""


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflow_runs(client, workflow, name):
    prompt = workflow(name)
    steps = []
    result = client.run(prompt, steps.append)
    for node, entry in prompt.items():
        if entry["class_type"] == "SaveImage":
            images = [np.asarray(Image.open(io.BytesIO(client.image(record)))) for record in result.images(node)]
            assert len(images) == ONE.get((name, node), 2) and all(image.shape == (128, 128, 3) for image in images)
            assert len(images) == 1 or not np.array_equal(*images), "two noises gave one picture"
        if entry["class_type"] == "PreviewAny":
            assert result.text(node).strip() not in ("", "None")
    if name == "segment":  # nothing is sampled there
        assert result.images("30")
        return
    sampled = [p for p in steps if p.kind in SAMPLERS and p.maximum]
    assert sampled and max(p.value for p in sampled) == 4 == sampled[-1].maximum


def test_reference_pictures_arrive_whole(client, workflow, pack):
    prompt = workflow("demo_subject")
    records = client.run(prompt).images("9")
    seen = np.concatenate([np.asarray(Image.open(io.BytesIO(client.image(r)))) for r in records], axis=1)
    with Image.open(pack / "demo" / "weights" / "subjects" / f"{NAME}.png") as strip:
        assert np.array_equal(seen, np.asarray(strip))


def saved_pictures(client, prompt: dict) -> list[bytes]:
    """Pixels of the saved pictures; the files themselves hold the workflow, too."""
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
    """Every sampler, with the schedulers in turn, so that each of both is used at least once."""
    info = client.object_info()["KSampler"]["input"]["required"]
    names, schedulers = info["sampler_name"][0], info["scheduler"][0]
    assert len(names) > len(schedulers) > 5
    prompt = workflow("demo_model")
    sampler, last = only(prompt, "KSampler"), max(map(int, prompt))
    only(prompt, "EmptyLatentImage")["batch_size"] = 1
    for i, name in enumerate(names):
        numbers = [str(last + 1 + 3 * i + k) for k in range(3)]
        settings = {**sampler, "sampler_name": name, "scheduler": schedulers[i % len(schedulers)], "steps": 5}
        prompt[numbers[0]] = {"class_type": "KSampler", "inputs": settings}
        prompt[numbers[1]] = {"class_type": "VAEDecode", "inputs": {"samples": [numbers[0], 0], "vae": ["1", 2]}}
        prompt[numbers[2]] = {"class_type": "PreviewImage", "inputs": {"images": [numbers[1], 0]}}
    result = client.run(prompt)
    for i, name in enumerate(names):
        pixels = np.asarray(Image.open(io.BytesIO(client.image(result.images(str(last + 3 + 3 * i))[0]))))
        assert pixels.std() > 0, f"{name} with {schedulers[i % len(schedulers)]} gave an empty picture"


@pytest.mark.usefixtures("still_serving")
class TestBadInput:
    @pytest.mark.parametrize("damage", ["missing", "truncated"])
    @pytest.mark.parametrize(
        "file",
        ["denoiser.safetensors", "autoencoder.safetensors", f"subjects/{NAME}.safetensors", f"subjects/{NAME}.png"],
    )
    def test_damaged_weights(self, client, workflow, pack, file, damage):
        path = pack / "demo" / "weights" / file
        content = path.read_bytes()
        try:
            path.unlink() if damage == "missing" else path.write_bytes(content[: len(content) // 2])
            failure(client, workflow("demo_subject"), path.name)
        finally:
            path.write_bytes(content)

    def test_subject_of_another_model(self, client, workflow, pack):
        prompt = workflow("demo_subject")
        path = pack / "demo" / "weights" / "subjects" / f"{NAME}.safetensors"
        content = path.read_bytes()
        try:
            path.write_bytes((pack / "demo" / "weights" / "autoencoder.safetensors").read_bytes())
            failure(client, prompt, "LikenessDemoSubject", path.name, "another model")
        finally:
            path.write_bytes(content)

    def test_unknown_subject(self, client, workflow):
        prompt = workflow("demo_subject")
        only(prompt, "LikenessDemoSubject")["subject"] = "nobody"
        with pytest.raises(Rejected, match="nobody"):
            client.run(prompt)

    @pytest.mark.parametrize("name", ["step_blended_sampler", "step_blended_guider"])
    def test_switch_beyond_the_steps(self, client, workflow, name):
        prompt = workflow(name)
        next(e["inputs"] for e in prompt.values() if "switch_step" in e["inputs"])["switch_step"] = 99
        failure(client, prompt, "switch_step", "99")

    @pytest.mark.parametrize(("word", "expected"), [("car", "car"), ("", "word"), ("fish car", "fish car")])
    def test_word_that_is_not_in_the_prompt(self, client, workflow, word, expected):
        prompt = workflow("attention_maps")
        only(prompt, "LikenessAttentionMaps")["word"] = word
        failure(client, prompt, "LikenessAttentionMaps", expected)

    @pytest.mark.parametrize("blocks", ["output99", "encoder,decoderr", ""])
    def test_unknown_blocks(self, client, workflow, blocks):
        prompt = workflow("attention_maps")
        only(prompt, "LikenessAttentionMaps")["blocks"] = blocks
        failure(client, prompt, "LikenessAttentionMaps")

    def test_same_model_twice(self, client, workflow):
        prompt = workflow("step_blended_sampler")
        only(prompt, "StepBlendedSampler").update(personalized_model=["1", 0], personalized_positive=["4", 0])
        failure(client, prompt, "StepBlendedSampler", "personalized_model")

    @pytest.mark.parametrize(
        ("node", "changes", "expected"),
        [
            ("MultiSourceAttnSwap", {"lambda_3": 1}, "lambda_3"),
            ("MultiSourceAttnSwap", {"lambda_2": 99, "lambda_3": 99}, "99"),
            ("MultiSourceAttnSwap", {"blocks": "output77"}, "output77"),
            ("AdaptiveMask", {"word": "house"}, "house"),
            ("LikenessAttentionMaps", {"word": "house"}, "house"),
        ],
    )
    def test_retouch_with_wrong_settings(self, client, workflow, node, changes, expected):
        prompt = workflow("layout_and_retouch")
        next(e["inputs"] for e in prompt.values() if e["class_type"] == node).update(changes)
        failure(client, prompt, node, expected)

    @pytest.mark.parametrize("changes", [{"steps": 6}, {"scheduler": "karras"}], ids=str)
    def test_retouch_of_a_layout_from_another_schedule(self, client, workflow, changes):
        prompt = workflow("layout_and_retouch")
        prompt["18"]["inputs"].update({k if k != "sampler" else "sampler_name": v for k, v in changes.items()})
        failure(client, prompt, "MultiSourceAttnSwap", "steps, scheduler")

    def test_retouch_of_a_layout_from_another_sampler(self, client, workflow):
        prompt = workflow("layout_and_retouch")
        prompt["18"]["inputs"]["sampler_name"] = "dpmpp_2m"
        failure(client, prompt, "MultiSourceAttnSwap", "sampler", "euler", "dpmpp_2m")

    def test_retouch_of_a_layout_of_another_size(self, client, workflow):
        prompt = workflow("layout_and_retouch")
        prompt["40"] = {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 128, "batch_size": 2}}
        prompt["18"]["inputs"]["latent_image"] = ["40", 0]
        failure(client, prompt, "MultiSourceAttnSwap", "one latent")

    def test_a_mask_of_another_size(self, client, workflow):
        prompt = workflow("layout_and_retouch")
        prompt["40"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 96, "height": 96}}
        prompt["17"]["inputs"]["mask"] = ["40", 0]
        failure(client, prompt, "MultiSourceAttnSwap", "96 x 96")
        prompt["40"]["inputs"] |= {"value": 0.0, "width": 128, "height": 128}
        failure(client, prompt, "MultiSourceAttnSwap", "empty")

    def test_a_segmenter_file_with_code_in_it(self, client, workflow, pack):
        path = pack.parents[1] / "models" / "sams" / "sam_vit_b_01ec64.pth"
        content = path.read_bytes()
        try:
            torch.save({"image_encoder.pos_embed": Code()}, path)
            failure(client, workflow("segment"), "LikenessSegment", path.name)
        finally:
            path.write_bytes(content)

    @pytest.mark.parametrize(
        ("saving", "using", "loader", "file"),
        [
            ("store_reference", "use_stored_reference", "LikenessLoadReference", "likeness/nemo_00001_.safetensors"),
            ("save_palette", "use_saved_palette", "LikenessLoadPalette", "likeness_palettes/nemo_00001_.safetensors"),
            (
                "save_template",
                "use_saved_template",
                "LikenessLoadTemplate",
                "likeness_templates/fish_in_the_snow_00001_.safetensors",
            ),
        ],
    )
    def test_a_saved_file_that_is_cut_off(self, client, workflow, host, saving, using, loader, file):
        client.run(workflow(saving))
        path = host.base / "output" / file
        content = path.read_bytes()
        try:
            path.write_bytes(content[:200])
            failure(client, workflow(using), loader, path.name)
        finally:
            path.write_bytes(content)

    def test_video_latent(self, client, workflow):
        prompt = workflow("step_blended_sampler")
        prompt["6"] = {
            "class_type": "EmptyHunyuanLatentVideo",
            "inputs": {"width": 128, "height": 128, "length": 5, "batch_size": 1},
        }
        failure(client, prompt, "StepBlendedSampler", "LATENT")


@pytest.mark.parametrize("changes", [{"cfg": 1.0}, {"sampler_name": "dpmpp_2m"}, {"sampler_name": "heun"}], ids=str)
@pytest.mark.parametrize("mode", ["banked", "sequential", "batched"])
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
    prompt["11"]["inputs"]["image"] = ["40", 0]  # also of the mask, which is made from the latent
    assert len(client.run(prompt).images("20")) == 2


@pytest.mark.parametrize(("name", "sampler"), [("step_blended_sampler", "7"), ("layout_template", "18")])
def test_interrupt_ends_a_run_and_the_server_keeps_serving(client, workflow, name, sampler):
    prompt = workflow(name)
    settings = prompt[sampler]["inputs"]
    settings |= {k: v for k, v in {"steps": 2000, "switch_step": 1000}.items() if k in settings}
    timer = threading.Timer(3.0, client.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(Interrupted):
        client.run(prompt)
    timer.cancel()
    assert time.monotonic() - started < 60
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
