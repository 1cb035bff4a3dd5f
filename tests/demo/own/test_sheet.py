"""`run.py demo --checkpoint`: graphs with the inputs of their nodes, placed photographs, and the sheet."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from likeness.demo.own import command, graphs
from likeness.demo.own.graphs import Photo, Wish, graph
from likeness.demo.own.sheet import SIDE, Column, compose, thumbnail
from likeness.nodes import node_classes
from PIL import Image

CORE = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "CLIPTextEncode": ("CONDITIONING",),
    "LoraLoader": ("MODEL", "CLIP"),
    "EmptyLatentImage": ("LATENT",),
    "KSampler": ("LATENT",),
    "LoadImage": ("IMAGE", "MASK"),
    "InvertMask": ("MASK",),
    "VAEDecode": ("IMAGE",),
    "VAEEncode": ("LATENT",),
}
"""Types of the outputs of ComfyUI's own nodes in these graphs."""
WISH = Wish("c.safetensors", (Photo("a.png", False), Photo("b.png", True)), "{a dog}", "sks dog", 512, 512, lora="l")


def test_every_link_leads_to_a_node_and_every_input_is_known(schemas):
    for method in (graphs.ALONE, *graphs.METHODS):
        made = graph(method, WISH)
        for node in made.values():
            for value in node["inputs"].values():
                assert not isinstance(value, list) or value[0] in made
            if node["class_type"] in schemas:
                inputs = {name: optional for name, _, optional, _ in schemas[node["class_type"]]["inputs"]}
                given = {name.partition(".")[0] for name in node["inputs"]}
                assert given <= inputs.keys()
                assert {name for name, optional in inputs.items() if not optional} <= given


@pytest.mark.parametrize("method", graphs.METHODS)
def test_the_pack_s_nodes_accept_every_widget_and_link(method):
    pack, made = {node.GET_SCHEMA().node_id: node for node in node_classes()}, graph(method, WISH)

    def kind(link: list) -> str:
        source = made[link[0]]["class_type"]
        return pack[source].GET_SCHEMA().outputs[link[1]].io_type if source in pack else CORE[source][link[1]]

    for node in made.values():
        found = pack.get(node["class_type"])
        if found is None:
            continue
        links = {name: kind(value) for name, value in node["inputs"].items() if isinstance(value, list)}
        known = inspect.signature(found.validate_inputs).parameters
        given = {name: value for name, value in node["inputs"].items() if name in known and name not in links}
        given |= {"input_types": links} if "input_types" in known else {}
        listed = found.GET_SCHEMA().is_input_list
        answer = found.validate_inputs(**{name: [value] if listed else value for name, value in given.items()})
        assert answer is True, answer


@pytest.mark.parametrize("method", graphs.METHODS)
def test_settings_of_the_demo_s_network_are_left_to_the_demo(method):
    """Block names and the mask's threshold are the nodes' own."""
    pack = {node.GET_SCHEMA().node_id: node.GET_SCHEMA() for node in node_classes()}
    for node in graph(method, WISH).values():
        inputs = node["inputs"]
        if node["class_type"] in pack:
            defaults = {entry.id: getattr(entry, "default", None) for entry in pack[node["class_type"]].inputs}
            for name in {"threshold", "map_blocks", "layout_blocks"} & inputs.keys():
                assert inputs[name] == defaults[name], (node["class_type"], name)
    if method == graphs.JOINT:
        joint = graph(method, WISH)["joint"]["inputs"]
        assert joint["blocks"] == "automatic" and graph(method, WISH)[joint["caption"][0]]["inputs"]["text"] == ""


@pytest.fixture
def schemas():
    from likeness.tests.nodes import test_schemas

    return json.loads(test_schemas.SNAPSHOT.read_text(encoding="utf-8"))


def test_a_photograph_is_shown_upright_and_whole(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.new("RGB", (90, 60), "blue")
    picture.paste("red", (0, 0, 30, 60))  # on top once it is turned
    picture.save(tmp_path / "a.jpg", exif=exif, quality=95)
    shown = np.asarray(thumbnail(tmp_path / "a.jpg"))
    assert shown.shape == (SIDE, SIDE, 3)
    assert shown[20, SIDE // 2, 0] > 200 and shown[-20, SIDE // 2, 2] > 200 and (shown[SIDE // 2, 3] > 240).all()


def test_columns_stand_beside_each_other():
    red, green = (Image.new("RGB", (64, 64), color) for color in ("red", "green"))
    sheet = np.asarray(compose("a dog", [Column("one", "", [red, red, red]), Column("two", "x" * 500, [green])]))
    is_red, is_green = (sheet == (255, 0, 0)).all(-1), (sheet == (0, 128, 0)).all(-1)
    assert is_red.sum() == 3 * SIDE * SIDE and is_green.sum() == SIDE * SIDE
    assert is_red.nonzero()[1].max() < is_green.nonzero()[1].min()


def test_photographs_are_placed_at_the_size_of_training(tmp_path):
    Image.new("RGB", (1200, 900)).save(tmp_path / "large.jpg")
    Image.new("RGBA", (100, 80), (9, 9, 9, 0)).save(tmp_path / "cut_out.png")
    Image.new("RGBA", (100, 80), (9, 9, 9, 255)).save(tmp_path / "opaque.png")
    paths = [tmp_path / name for name in ("large.jpg", "cut_out.png", "opaque.png")]
    (tmp_path / "input").mkdir()
    placed = command.place_photos(paths, tmp_path / "input", 512)
    assert [photo.cut_out for photo in placed] == [False, True, False]
    sizes = [Image.open(tmp_path / "input" / photo.file).size for photo in placed]
    assert sizes == [(592, 440), (96, 80), (96, 80)]


def test_the_folders_of_the_files_are_made_known(tmp_path, monkeypatch):
    monkeypatch.setattr(command, "prepare", lambda base: base)
    given = {"checkpoint": tmp_path / 'a "b"' / "c.safetensors", "lora": tmp_path / "é" / "l.safetensors"}
    options = type("Options", (), given)
    arguments = command.setup(options)(tmp_path)
    import yaml

    known = yaml.safe_load((tmp_path / "models.yaml").read_text(encoding="utf-8"))["yours"]
    assert arguments == ("--extra-model-paths-config", str(tmp_path / "models.yaml"))
    assert known == {"is_default": True, "checkpoints": str(tmp_path / 'a "b"'), "loras": str(tmp_path / "é")}
