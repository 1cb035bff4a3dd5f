"""Workflows of S3 on a real ComfyUI: their nodes and inputs exist there, and stages draw over HTTP."""

import json

import pytest
from likeness.lab.farm.servers import Server
from likeness.lab.s3 import check, graphs, makers, smoke
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.studio import StageFailed, Studio
from PIL import Image, ImageDraw

BUNDLED = sorted(graphs.FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def known(client):
    return client.object_info()


@pytest.mark.parametrize("path", BUNDLED, ids=lambda path: path.stem)
def test_a_bundled_workflow_fits_the_host(known, path):
    graph = json.loads(path.read_text(encoding="utf-8"))
    for key, node in graph.items():
        described = known[node["class_type"]]["input"]
        required, optional = described.get("required", {}), described.get("optional", {})
        names = {name.partition(".")[0] for name in node["inputs"]}
        assert names <= {*required, *optional} and set(required) <= names, (key, node["class_type"])
        for name, value in node["inputs"].items():
            if isinstance(value, list):
                given = known[graph[value[0]]["class_type"]]["output"][value[1]]
                wanted = {**required, **optional}[name][0]
                assert wanted == "*" or given in wanted.split(","), (key, name, given, wanted)


def on_the_demo_model(stage: str, name: str) -> dict:
    """Bundled workflow with the demo model in place of its checkpoint, and two steps."""
    facts = graphs.load(stage, name)
    for node in facts["graph"].values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node |= {"class_type": "LikenessDemoModel", "inputs": {}, "_meta": {"title": "Demo"}}
        node["inputs"] |= {"steps": 2} if "steps" in node["inputs"] else {}
    return facts


def test_stages_draw_over_http(client, tmp_path):
    own = {
        "1": {"class_type": "LoadImage", "inputs": {"image": ""}, "_meta": {"title": "Collage [image=picture]"}},
        "2": {"class_type": "ImageToMask", "inputs": {"image": ["1", 0], "channel": "red"}},
        "3": {
            "class_type": "LikenessCutOut",
            "inputs": {
                "image": ["1", 0],
                "masks": ["2", 0],
                "parts": "each connected part",
                "border": "drop",
                "minimum_area": 0.01,
                "maximum_area": 0.8,
                "fill": "transparent",
            },
        },
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["3", 0]}},
    }
    facts = smoke.facts(objects=["fish"], size=64, collage_size=64)
    facts["stages"] |= {
        "collage": on_the_demo_model("collage", "sdxl"),
        "segment": {"by": "workflow", "name": "own", "graph": own},
        "inpaint": on_the_demo_model("inpaint", "sd15"),
        "restyle": {**on_the_demo_model("restyle", "instruct-pix2pix"), "share": 1.0, "styles": ["x"]},
        "caption": {"by": "scene"},
    }
    plan = Plan(tmp_path, facts)
    stages = makers.of(plan, Studio(Server(client.address)), None)
    row = plan.row(0)
    assert stages.collage(row, "a red fish").size == (64, 64)
    collage = Image.new("RGB", (64, 64))
    for box in ((4, 4, 20, 30), (30, 10, 50, 30), (40, 50, 64, 64)):
        ImageDraw.Draw(collage).rectangle(box, "red")
    cuts = stages.segment(row, collage)
    assert [cut.picture.size for cut in cuts] == [(17, 27), (21, 21)] and cuts[0].picture.mode == "RGBA"
    assert stages.segment(row, Image.new("RGB", (64, 64))) == []
    subject = Image.new("RGBA", (64, 64), (0, 0, 0, 0))
    subject.paste((255, 0, 0, 255), (20, 20, 40, 40))
    behind = stages.background(row, 0, subject, "a fish in the sea")
    assert behind.size == (64, 64) and behind.tobytes() != stages.background(row, 1, subject, "a fish").tobytes()
    assert stages.restyle(row, 0, behind, "make it blue").size == (64, 64)


def test_what_a_server_lacks_is_one_sentence(client, tmp_path):
    facts = smoke.facts(objects=["fish"])
    own = graphs.load("collage", "sdxl")
    own["graph"]["6"]["class_type"] = "NoSuchNode"
    facts["stages"] |= {"collage": own}
    plan = Plan(tmp_path, facts)
    said = check.run(plan, [Server(client.address)], tmp_path, None)
    assert any("has no sd_xl_base_1.0.safetensors in models/checkpoints (SDXL, 6.9 GB" in line for line in said)
    assert any("has no node NoSuchNode; update it, or install the node's pack" in line for line in said)
    facts["stages"] |= {name: {"by": "none"} for name in ("segment", "inpaint", "restyle", "caption")}
    with pytest.raises(StageFailed, match="collage-sdxl: ComfyUI refused the workflow"):
        from likeness.lab.s3.stages import Drawn

        Drawn(plan, Studio(Server(client.address))).collage(plan.row(0), "a fish")
