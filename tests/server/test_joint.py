"""JeDi's nodes in a real ComfyUI: sets over HTTP, and messages for bad input."""

import numpy as np
import pytest
from likeness.tests import workflows
from likeness.tests.server.prompts import failure, only, pictures

ALONE = {"strength": 0.0}


def run(client, workflow, **changes):
    prompt = workflow("joint_image_sampler")
    only(prompt, "JointImageSampler").update(changes)
    return pictures(client, client.run(prompt), "11")


@pytest.fixture(scope="module")
def plain(client):
    """The set that the shortened workflow draws."""
    return run(client, lambda name: workflows.shortened(workflows.api(name)))


def same(first, second) -> bool:
    return len(first) == len(second) > 0 and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_pictures_of_a_set_look_at_each_other(client, workflow):
    together, alone = run(client, workflow), run(client, workflow, **ALONE)
    assert len(together) == len(alone) == 2
    assert not any(np.array_equal(a, b) for a, b in zip(together, alone, strict=True))


def test_without_coupling_a_set_is_what_ksampler_draws(client, workflow):
    prompt = workflow("demo_model")
    drawn = only(prompt, "KSampler") | {"seed": 8, "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
    graph = workflow("joint_image_sampler")
    only(graph, "JointImageSampler").update(ALONE)
    text = {"text": "a photo of a fish in the sea", "clip": ["1", 1]}
    graph |= {
        "40": {"class_type": "CLIPTextEncode", "inputs": text},
        "41": {"class_type": "EmptyLatentImage", "inputs": {"width": 128, "height": 128, "batch_size": 1}},
        "42": {
            "class_type": "KSampler",
            "inputs": drawn
            | {"model": ["1", 0], "positive": ["40", 0], "negative": ["4", 0], "latent_image": ["41", 0]},
        },
        "43": {"class_type": "VAEDecode", "inputs": {"samples": ["42", 0], "vae": ["1", 2]}},
        "44": {"class_type": "SaveImage", "inputs": {"images": ["43", 0], "filename_prefix": "likeness/alone"}},
    }
    result = client.run(graph)
    (alone,), second = pictures(client, result, "44"), pictures(client, result, "11")[1]
    assert np.abs(alone.astype(int) - second.astype(int)).max() <= 2, "the second prompt with the second seed"


@pytest.mark.parametrize(
    "changes",
    [
        {"cfg": 1.0},
        {"sampler": "dpmpp_2m"},
        {"sampler": "euler_ancestral"},
        {"denoise": 0.6},
        {"guidance": "text_first", "image_cfg": 6.0},
        {"guidance": "image_first", "image_cfg": 2.0},
        {"guidance": "text_only"},
        {"reference_noise": "never"},
        {"token_dropout": 0.5},
        {"query_blend": 0.9},
    ],
    ids=str,
)
def test_every_choice_draws_another_set(client, workflow, plain, changes):
    made = run(client, workflow, **changes)
    assert len(made) == 2 and not same(made, plain)


def test_a_latent_of_several_pictures_as_references(client, workflow):
    graph = workflow("joint_image_sampler")
    graph["40"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["6", 0], "vae": ["1", 2]}}
    only(graph, "JointImageSampler").update(references=["40", 0], caption=["5", 0])
    assert len(pictures(client, client.run(graph), "11")) == 2


def test_lists_of_references_and_of_captions(client, workflow):
    """A list of two references puts both into the set."""
    graph = workflow("joint_image_sampler")
    graph["40"] = {"class_type": "LikenessPromptList", "inputs": {"text": "a fish\na toy", "clip": ["1", 1]}}
    graph["7"]["inputs"]["conditioning"] = ["40", 0]  # a list: the node runs once for each
    graph["6"]["inputs"]["length"] = 1
    both = pictures(client, client.run(graph), "11")
    graph["40"]["inputs"]["text"] = "a fish"
    assert not same(both, pictures(client, client.run(graph), "11"))
    only(graph, "JointImageSampler")["latent"] = ["41", 0]
    graph["41"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["6", 0], "vae": ["1", 2]}}
    assert len(pictures(client, client.run(graph), "11")) == 2


def test_pictures_without_references(client, workflow, plain):
    graph = workflow("joint_image_sampler")
    del only(graph, "JointImageSampler")["references"]
    made = pictures(client, client.run(graph), "11")
    assert len(made) == 2 and not same(made, plain)


def test_a_list_of_prompts_runs_other_nodes_once_each(client, workflow):
    graph = workflow("joint_image_sampler")
    graph["40"] = {
        "class_type": "KSampler",
        "inputs": {
            "model": ["1", 0],
            "positive": ["3", 0],
            "negative": ["4", 0],
            "latent_image": ["8", 0],
            "seed": 7,
            "steps": 2,
            "cfg": 1.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "denoise": 1.0,
        },
    }
    graph["10"]["inputs"]["samples"] = ["40", 0]
    assert len(pictures(client, client.run(graph), "11")) == 4  # two latents for either prompt


class TestBadInput:
    @pytest.fixture(autouse=True)
    def _serving(self, still_serving):
        yield

    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({"blocks": "output77"}, "output77"),
            ({"channel_order": "mask, noisy, clean"}, "9 input channels"),
            ({"references": None, "guidance": "image_first"}, "image_first"),
        ],
        ids=str,
    )
    def test_wrong_settings(self, client, workflow, changes, expected):
        graph = workflow("joint_image_sampler")
        inputs = only(graph, "JointImageSampler")
        inputs.update({k: v for k, v in changes.items() if v is not None})
        for name in [k for k, v in changes.items() if v is None]:
            del inputs[name]
        failure(client, graph, "JointImageSampler", expected)

    def test_more_prompts_than_latents(self, client, workflow):
        graph = workflow("joint_image_sampler")
        only(graph, "LikenessPromptList")["text"] = "in the snow\nin the sea\nat night"
        failure(client, graph, "JointImageSampler", "2 for 3 prompts")
        graph = workflow("joint_guider")
        only(graph, "LikenessPromptList")["text"] = "in the snow\nin the sea\nat night"
        failure(client, graph, "LikenessJointGuider", "3 prompts and 2 latents")

    def test_no_prompt_at_all(self, client, workflow):
        graph = workflow("joint_image_sampler")
        only(graph, "LikenessPromptList")["text"] = "\n  \n"
        failure(client, graph, "LikenessPromptList", "one prompt per line")

    def test_a_reference_that_is_too_large(self, client, workflow):
        graph = workflow("joint_image_sampler")
        graph["40"] = {
            "class_type": "EmptyImage",
            "inputs": {"width": 192, "height": 128, "batch_size": 1, "color": 255},
        }
        graph["41"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["40", 0], "vae": ["1", 2]}}
        only(graph, "JointImageSampler")["references"] = ["41", 0]
        failure(client, graph, "JointImageSampler", "24 x 16")

    def test_a_prompt_of_another_family(self, client, workflow):
        graph = workflow("load_joint_checkpoint")
        only(graph, "LikenessPromptList")["clip"] = ["13", 1]
        failure(client, graph, "JointImageSampler", "text encoder")

    def test_nine_channels_of_unknown_order(self, client, workflow):
        graph = workflow("load_joint_checkpoint")
        graph["1"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "joint.safetensors"}}
        failure(client, graph, "JointImageSampler", "inpainting checkpoint")
        only(graph, "JointImageSampler")["channel_order"] = "mask, noisy, clean"
        assert len(pictures(client, client.run(graph), "11")) == 2

    def test_a_checkpoint_that_tells_nothing(self, client, workflow, host):
        path = host.base / "models" / "checkpoints" / "joint.safetensors"
        content = path.read_bytes()
        try:
            path.write_bytes(content[:100])
            failure(client, workflow("load_joint_checkpoint"), "LikenessLoadJointCheckpoint", "safetensors")
        finally:
            path.write_bytes(content)
