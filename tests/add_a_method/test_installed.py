"""The three files beside the pack's own: the floors hold, and a real ComfyUI runs the node."""

import importlib.util
import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from likeness.demo.launcher import host as hosting
from likeness.tests.add_a_method import install
from likeness.tests.hosting import install_pack
from PIL import Image

LAYERS = "tests/nodes/test_layers.py"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A ComfyUI base folder that holds the pack with the three files."""
    base = tmp_path_factory.mktemp("comfyui")
    install.install(install_pack(base))
    return base


def test_the_floors_hold(base):
    pack = base / "custom_nodes" / "likeness"
    (pack / LAYERS).parent.mkdir(parents=True, exist_ok=True)  # an archive of the sources has no tests
    shutil.copyfile(hosting.PACK / LAYERS, pack / LAYERS)
    spec = importlib.util.spec_from_file_location("layers_with_a_method", pack / LAYERS)
    assert spec is not None and spec.loader is not None
    layers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(layers)
    assert {pack / name for name in install.FILES} <= set(layers.FILES)
    for path in layers.FILES:
        layers.test_imports_point_down(path)
    layers.test_no_circles()


def prompt(strength: float) -> dict:
    nodes = {
        "model": ("LikenessDemoModel", {}),
        "subject": ("LikenessDemoSubject", {"subject": "nemo", "strength": 1.0, "scene": "in the snow"}),
        "style": ("ImageFromBatch", {"image": ["subject", 1], "batch_index": 0, "length": 1}),
        "neutral": ("CLIPTextEncode", {"text": ["subject", 4]}),
        "positive": ("CLIPTextEncode", {"text": "a red car in the snow"}),
        "negative": ("CLIPTextEncode", {"text": ""}),
        "reference": ("LikenessReference", {"conditioning": ["neutral", 0], "source": "inverted"}),
        "aligned": ("StyleAligned", {"reference": ["reference", 0], "blocks": "all", "mode": "banked"}),
        "latent": ("EmptyLatentImage", {"width": 128, "height": 128, "batch_size": 2}),
        "sampler": ("KSampler", {"model": ["aligned", 0], "latent_image": ["latent", 0], "steps": 2, "cfg": 4.0}),
        "decoded": ("VAEDecode", {"samples": ["sampler", 0]}),
        "saved": ("SaveImage", {"images": ["decoded", 0], "filename_prefix": "aligned"}),
    }
    nodes["subject"][1]["model"] = nodes["aligned"][1]["model"] = ["model", 0]
    nodes["neutral"][1]["clip"] = nodes["positive"][1]["clip"] = nodes["negative"][1]["clip"] = ["model", 1]
    nodes["reference"][1].update(image=["style", 0], vae=["model", 2], seed=0, weight=1.0)
    nodes["aligned"][1].update(strength=strength, start_percent=0.0, end_percent=1.0)
    nodes["sampler"][1].update(positive=["positive", 0], negative=["negative", 0], seed=7, denoise=1.0)
    nodes["sampler"][1].update(sampler_name="euler", scheduler="normal")
    nodes["decoded"][1]["vae"] = ["model", 2]
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in nodes.items()}


def test_a_real_comfyui_runs_the_node(base):
    with hosting.Host(Path(os.environ["COMFYUI_PATH"]), base=base) as host:
        listed = host.client.object_info()["StyleAligned"]
        assert listed["python_module"] == "custom_nodes.likeness" and listed["category"] == "Likeness/Guide"

        def pictures(given: dict) -> np.ndarray:
            records = host.client.run(given).images("saved")
            return np.stack([np.asarray(Image.open(io.BytesIO(host.client.image(record)))) for record in records])

        plain = prompt(0.0)
        plain["sampler"]["inputs"]["model"] = ["model", 0]
        expected = pictures(plain)
        assert expected.shape == (2, 128, 128, 3)
        assert np.array_equal(pictures(prompt(0.0)), expected)
        assert not np.array_equal(pictures(prompt(1.0)), expected)
