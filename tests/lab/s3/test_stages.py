"""Workflows of the stages: their slots, seeds and pictures, lost servers, and what they show."""

import io
from random import Random

import numpy as np
import pytest
from likeness.demo.launcher.client import Failed
from likeness.demo.launcher.files import Problem
from likeness.lab.s3 import graphs, makers, smoke
from likeness.lab.s3.plan import Plan
from likeness.lab.s3.studio import StageFailed, Studio, opened, png
from PIL import Image

BUNDLED = [path.stem for path in sorted(graphs.FOLDER.glob("*.json"))]
LOST = ConnectionError("gone")


class FakeServer:
    """ComfyUI that shows pictures of a color; `errors` are raised first, one a call."""

    def __init__(self, errors=(), count=1, mode="RGB", text=""):
        self.errors, self.count, self.mode, self.text = list(errors), count, mode, text
        self.graphs, self.uploads, self.restarts = [], [], 0

    def start(self) -> None:
        pass

    stop = start

    def restart(self) -> None:
        self.restarts += 1

    def upload(self, name, content) -> None:
        self.uploads.append((name, content))

    def results(self, graph, output, timeout):
        if self.errors and (error := self.errors.pop(0)):
            raise error
        self.graphs.append(graph)
        content = io.BytesIO()
        Image.new(self.mode, (96, 96), "#c83232").save(content, format="PNG")
        return [content.getvalue()] * self.count, self.text


def plan_of(**stages) -> Plan:
    facts = smoke.facts(objects=["mug"], size=96)
    template = {"by": "template", "template": "a {name}"}
    facts["stages"] |= {
        "collage": graphs.load("collage", "sdxl"),
        "segment": graphs.load("segment", "sam3"),
        "inpaint": graphs.load("inpaint", "sd15"),
        "restyle": {**graphs.load("restyle", "instruct-pix2pix"), "share": 1.0, "styles": ["make it blue"]},
        "caption": template,
        **stages,
    }
    return Plan(None, facts)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_workflow_has_the_slots_of_its_stage(name):
    stage, _, rest = name.partition("-")
    facts = graphs.load(stage, rest)
    template = graphs.template(facts)
    assert set(graphs.NEEDED[stage]) <= template.names and template.output
    assert graphs.load(stage, rest, "mine.safetensors")["graph"] != graphs.load(stage, rest)["graph"]


def test_stages_fill_their_slots_and_draw_with_seeds_of_their_own():
    plan, server = plan_of(), FakeServer()
    stages = makers.of(plan, Studio(server), None)
    row, subject = plan.row(3), Image.new("RGBA", (96, 96), (0, 0, 0, 0))
    stages.collage(row, "a red mug")
    for number in range(2):
        stages.background(row, number, subject, "a mug by a lake")
    stages.restyle(row, 0, subject.convert("RGB"), "make it blue")
    collage, one, two, styled = server.graphs
    assert collage["2"]["inputs"]["text"] == "a red mug, photos of the same"
    assert (collage["4"]["inputs"]["width"], collage["4"]["inputs"]["batch_size"]) == (216, 1)
    assert one["3"]["inputs"]["text"] == "a mug by a lake" and styled["3"]["inputs"]["text"] == "make it blue"
    seeds = [collage["5"]["inputs"]["seed"], one["6"]["inputs"]["seed"], two["6"]["inputs"]["seed"]]
    assert len({*seeds, styled["7"]["inputs"]["noise_seed"]}) == 4
    assert seeds[0] == plan.rng(row, "collage/seed").getrandbits(32)
    assert len({name for name, _ in server.uploads}) == 1 and opened(server.uploads[0][1]).mode == "RGBA"
    assert one["2"]["inputs"]["image"] == server.uploads[0][0]


def test_instances_are_transparent_pictures_of_any_number():
    plan = plan_of()
    for count in (0, 3):
        stages = makers.of(plan, Studio(FakeServer(count=count, mode="RGBA")), None)
        assert len(stages.segment(plan.row(0), Image.new("RGB", (96, 96)))) == count
    with pytest.raises(StageFailed, match="segment-sam3 shows pictures of the mode RGB, expected transparent ones"):
        makers.of(plan, Studio(FakeServer()), None).segment(plan.row(0), Image.new("RGB", (96, 96)))
    with pytest.raises(Problem, match="Expected one picture from the workflow collage-sdxl, got 2: set its batch size"):
        makers.of(plan, Studio(FakeServer(count=2)), None).collage(plan.row(0), "a mug")


def test_captions_name_the_object_or_are_replaced():
    plan = plan_of(caption=graphs.load("caption", "qwen3-vl"))
    for text, expected in (('"A mug on a table."', "A mug on a table."), ("It is nice here.", "a mug by a lake")):
        stages = makers.of(plan, Studio(FakeServer(text=text)), None)
        assert stages.caption(plan.row(0), 1, Image.new("RGB", (96, 96)), "a mug by a lake") == expected


def test_a_lost_server_is_started_again_and_memory_tried_once_more():
    template = graphs.template(plan_of().stage("collage"))
    values = {"prompt": "a mug", "seed": 1, "width": 64, "height": 64}
    server = FakeServer([LOST, LOST])
    assert Studio(server).picture(template, values) and server.restarts == 2
    with pytest.raises(StageFailed, match=r"collage-sdxl: the server was lost 3 times at this picture \(gone\)"):
        Studio(FakeServer([LOST] * 3)).picture(template, values)
    memory = Failed("5", "KSampler", "CUDA out of memory")
    assert Studio(FakeServer([memory])).picture(template, values)
    with pytest.raises(StageFailed, match="collage-sdxl: out of memory, also after a restart of the server"):
        Studio(FakeServer([memory] * 2)).picture(template, values)


def test_a_corrupt_picture_is_a_failed_stage():
    content = png(Image.fromarray(np.frombuffer(Random(0).randbytes(64 * 64 * 3), np.uint8).reshape(64, 64, 3)))
    for broken in (b"", b"no picture", content[: len(content) // 2]):
        with pytest.raises(StageFailed, match="a picture that cannot be read"):
            opened(broken)


def test_workflows_that_do_not_fit_are_one_sentence(tmp_path):
    def refused(content, sentence, **options):
        (tmp_path / "mine.json").write_text(content)
        with pytest.raises(Problem, match=sentence):
            graphs.load("collage", str(tmp_path / "mine.json"), **options)

    refused("{", r"The workflow .*mine.json is not JSON .*: save it in API format")
    refused('{"nodes": []}', "The workflow mine is no workflow in API format")
    save = '{"1": {"class_type": "SaveImage", "inputs": {"images": 0}, "_meta": {"title": "Save [images=seed]"}}}'
    refused(save, "of the stage collage has no slot prompt: write .INPUT=prompt. at the end of a node's title")
    refused(save.replace("images=seed", "images=nothing"), "has the slot 'images=nothing': write INPUT=SLOT")
    both = save.replace("[images=seed]", "[images=seed, x=prompt]").replace('"images": 0', '"images": 0, "x": 1')
    refused(both, "has no slot weights: choose the file in it", weights="sdxl.safetensors")
