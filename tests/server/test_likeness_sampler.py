"""The Likeness Sampler over HTTP: likeness 0 is KSampler's picture, and the node shows its report."""

import numpy as np
from likeness.tests.server.prompts import failure, only, pictures
from likeness.tests.workflows import SHORT


def test_likeness_0_is_the_lora_s_picture(client, workflow):
    prompt = workflow("likeness_sampler_retouch")
    only(prompt, "LikenessSampler")["likeness"] = 0.0
    plain = {"seed": 7, "steps": SHORT["steps"], "cfg": 4.0, "sampler_name": "euler", "scheduler": "normal"}
    links = {"model": ["2", 0], "positive": ["5", 0], "negative": ["5", 3], "latent_image": ["6", 0]}
    prompt["20"] = {"class_type": "KSampler", "inputs": {**plain, "denoise": 1.0, **links}}
    prompt["21"] = {"class_type": "VAEDecode", "inputs": {"samples": ["20", 0], "vae": ["1", 2]}}
    prompt["22"] = {"class_type": "PreviewImage", "inputs": {"images": ["21", 0]}}
    result = client.run(prompt)
    assert np.array_equal(pictures(client, result, "9"), pictures(client, result, "22"))
    report = result.text("7")
    assert "Method: retouch (Layout-and-Retouch), because a personalized model is connected." in report


def test_a_contradiction_is_refused_when_queued(client, workflow):
    prompt = workflow("likeness_sampler")
    only(prompt, "LikenessSampler")["layout"] = "drawn mask"
    failure(client, prompt, "expected a mask for layout drawn mask")
