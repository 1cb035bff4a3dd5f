"""Pick-and-Draw's nodes in a real ComfyUI: their effect on a run over HTTP, and their messages for bad input."""

import json

import numpy as np
import pytest
import safetensors
from likeness.demo.launcher.client import Rejected
from likeness.tests import workflows
from likeness.tests.server.prompts import failure, only, pictures
from safetensors.torch import save_file

SAVED = {
    "palette": ("save_palette", "use_saved_palette", "likeness_palettes/nemo_00001_.safetensors"),
    "template": ("save_template", "use_saved_template", "likeness_templates/fish_in_the_snow_00001_.safetensors"),
}


def same(first: list[np.ndarray], second: list[np.ndarray]) -> bool:
    return len(first) == len(second) > 0 and all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def rewritten(path, **facts: str):
    """Rewrites a file with other metadata."""
    with safetensors.safe_open(path, framework="pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118 - not a mapping
    save_file(tensors, path, metadata={**metadata, **facts})


def guided_run(workflow) -> dict:
    """The Pick-and-Draw workflow without the plain run that it is compared with."""
    return {node: entry for node, entry in workflow("pick_and_draw").items() if node not in ("21", "22", "23", "24")}


@pytest.fixture
def saved(stored):
    """The file of a saved palette or template, restored after the test."""
    kept = {}

    def save(kind: str):
        path = stored(SAVED[kind][0], SAVED[kind][2])
        kept[path] = path.read_bytes()
        return path

    yield save
    for path, content in kept.items():
        path.write_bytes(content)


def test_guidance_changes_the_picture_and_draws_its_losses(client, workflow):
    result = client.run(workflow("pick_and_draw"))
    assert not same(pictures(client, result, "20"), pictures(client, result, "23"))
    (curves,) = pictures(client, result, "25")
    pixels = curves.reshape(-1, 3).astype(int)
    red, blue = pixels[:, 0] - pixels[:, 2], pixels[:, 2] - pixels[:, 0]
    assert (red > 100).sum() > 50 and (blue > 100).sum() > 50, "one of the curves is missing"


@pytest.mark.parametrize("changes", [{"step_size": 0.0}, {"appearance_weight": 0.0, "layout_weight": 0.0}], ids=str)
def test_neutral_guidance_changes_nothing(client, workflow, changes):
    prompt = workflow("pick_and_draw")
    only(prompt, "UREMDGuidance").update(changes)
    result = client.run(prompt)
    assert same(pictures(client, result, "20"), pictures(client, result, "23"))
    assert len(result.images("25")) == 1


@pytest.mark.parametrize(
    "changes", [{"cfg": 1.0}, {"sampler_name": "dpmpp_2m"}, {"sampler_name": "heun"}, {"denoise": 0.6}], ids=str
)
def test_guidance_under_other_samplers(client, workflow, changes):
    prompt = workflow("pick_and_draw")
    for node in ("18", "21"):
        prompt[node]["inputs"].update(changes)
    result = client.run(prompt)
    guided = pictures(client, result, "20")
    assert not np.array_equal(*guided) and not same(guided, pictures(client, result, "23"))


@pytest.fixture(scope="module")
def plain(client):
    """The pictures of a shortened workflow."""
    return pictures(client, client.run(workflows.shortened(workflows.api("appearance_palette"))), "20")


@pytest.mark.parametrize(
    "changes", [{"direction": "ref_to_gen"}, {"step": "raw", "step_size": 20.0}, {"iterations": 2}], ids=str
)
def test_every_choice_gives_another_picture(client, workflow, plain, changes):
    prompt = workflow("appearance_palette")
    only(prompt, "UREMDGuidance").update(changes)
    assert not same(pictures(client, client.run(prompt), "20"), plain)


def test_a_layout_without_a_run(client, workflow):
    prompt = workflow("layout_template")
    first = client.run(prompt)
    assert not same(pictures(client, first, "20"), pictures(client, first, "23"))
    only(prompt, "LayoutTemplate")["boxes"] = ""
    prompt["40"] = {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 128, "height": 128}}
    only(prompt, "LayoutTemplate")["mask"] = ["40", 0]
    assert not same(pictures(client, client.run(prompt), "20"), pictures(client, first, "20"))


@pytest.mark.parametrize("kind", SAVED)
def test_a_saved_file_guides_as_what_was_saved(client, workflow, saved, kind):
    saved(kind)
    prompt = workflow(SAVED[kind][1])
    loaded = pictures(client, client.run(prompt), "20")
    made = workflow("pick_and_draw")
    prompt |= {node: made[node] for node in ("8", "11", "14")}
    only(prompt, "UREMDGuidance")[kind] = ["14" if kind == "palette" else "8", 0]
    assert same(pictures(client, client.run(prompt), "20"), loaded)


@pytest.mark.usefixtures("still_serving")
class TestBadInput:
    def test_a_palette_without_a_subject(self, client, workflow):
        prompt = guided_run(workflow)
        only(prompt, "AppearancePalette")["threshold"] = 1.0
        said = failure(client, prompt, "AppearancePalette", "'fish'", "threshold 1")
        assert "lower threshold" in said and "connect mask" in said

    @pytest.mark.parametrize("node", ["AppearancePalette", "LayoutTemplate", "UREMDGuidance"])
    @pytest.mark.parametrize("word", ["house", ""])
    def test_a_word_that_is_not_in_the_text(self, client, workflow, node, word):
        prompt = guided_run(workflow)
        only(prompt, node)["word"] = word
        failure(client, prompt, node, word or "word")

    @pytest.mark.parametrize(
        ("node", "name"),
        [
            ("AppearancePalette", "blocks"),
            ("AppearancePalette", "map_blocks"),
            ("LayoutTemplate", "blocks"),
            ("UREMDGuidance", "layout_blocks"),
            ("UREMDGuidance", "map_blocks"),
        ],
    )
    def test_unknown_blocks(self, client, workflow, node, name):
        prompt = guided_run(workflow)
        only(prompt, node)[name] = "output99"
        failure(client, prompt, node, "output99", "output3")

    @pytest.mark.parametrize(
        ("node", "changes", "expected"),
        [
            ("AppearancePalette", {"blocks": ""}, "blocks"),
            ("AppearancePalette", {"map_blocks": ""}, "map_blocks"),
            ("AppearancePalette", {"start_percent": 0.8, "end_percent": 0.2}, "start_percent"),
            ("LayoutTemplate", {"blocks": ""}, "blocks"),
            ("LayoutTemplate", {"start_percent": 0.8, "end_percent": 0.2}, "start_percent"),
            ("UREMDGuidance", {"map_blocks": ""}, "map_blocks"),
            ("UREMDGuidance", {"threshold": 1.0}, "threshold"),
        ],
    )
    def test_settings_that_leave_nothing(self, client, workflow, node, changes, expected):
        prompt = guided_run(workflow)
        only(prompt, node).update(changes)
        failure(client, prompt, node, expected)

    def test_neither_palette_nor_template(self, client, workflow):
        prompt = guided_run(workflow)
        for name in ("palette", "template"):
            del only(prompt, "UREMDGuidance")[name]
        failure(client, prompt, "UREMDGuidance", "AppearancePalette", "LayoutTemplate")

    def test_a_palette_without_a_picture_and_with_two(self, client, workflow):
        prompt = guided_run(workflow)
        palette = only(prompt, "AppearancePalette")
        failure(
            client,
            {**prompt, "14": {**prompt["14"], "inputs": {**palette, "latent": ["7", 0]}}},
            "AppearancePalette",
            "image and latent",
        )
        del palette["image"]
        failure(client, prompt, "AppearancePalette", "neither")

    def test_two_palettes_of_different_blocks(self, client, workflow):
        prompt = workflow("appearance_palette")
        prompt["13"]["inputs"]["blocks"] = "output3"
        failure(client, prompt, "AppearancePalette", "output3", "blocks")

    def test_a_palette_of_another_family_or_of_blocks_that_the_model_lacks(self, client, workflow, saved):
        path = saved("palette")
        with safetensors.safe_open(path, framework="pt") as file:
            described = json.loads(file.metadata()["palette"])
        for changes in ({"family": "DiT"}, {"blocks": ["output99"]}):
            rewritten(path, palette=json.dumps({**described, **changes}))
            failure(
                client,
                workflow("use_saved_palette"),
                "UREMDGuidance",
                "palette",
                "DiT" if "family" in changes else "output99",
            )

    def test_a_template_of_another_family(self, client, workflow, saved):
        rewritten(saved("template"), family="DiT")
        failure(client, workflow("use_saved_template"), "UREMDGuidance", "template", "DiT")

    def test_a_template_without_the_blocks_asked_for(self, client, workflow):
        prompt = guided_run(workflow)
        only(prompt, "LayoutTemplate")["blocks"] = "output3"
        only(prompt, "UREMDGuidance")["layout_blocks"] = "output2-3"
        failure(client, prompt, "UREMDGuidance", "output2")

    @pytest.mark.parametrize("size", [{"batch_size": 3}, {"width": 64}], ids=str)
    def test_a_template_of_another_latent(self, client, workflow, size):
        prompt = guided_run(workflow)
        prompt["40"] = {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 128, "height": 128, "batch_size": 2, **size},
        }
        prompt["18"]["inputs"]["latent_image"] = ["40", 0]
        failure(client, prompt, "UREMDGuidance", "expected a template of", "latent", "LayoutTemplate")

    @pytest.mark.parametrize("boxes", ["0.1 0.2 0.5", "0 0 2 1"])
    def test_boxes_that_are_none(self, client, workflow, boxes):
        prompt = workflow("layout_template")
        only(prompt, "LayoutTemplate")["boxes"] = boxes
        failure(client, prompt, "LayoutTemplate", "boxes", boxes)

    def test_masks_that_say_nothing(self, client, workflow):
        prompt = workflow("layout_template")
        template = only(prompt, "LayoutTemplate")
        prompt["40"] = {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 128, "height": 128}}
        template["mask"] = ["40", 0]
        failure(client, prompt, "LayoutTemplate", "both")
        template["boxes"] = ""
        failure(client, prompt, "LayoutTemplate", "empty")
        prompt = guided_run(workflow) | {"40": prompt["40"]}
        only(prompt, "AppearancePalette")["mask"] = ["40", 0]
        failure(client, prompt, "AppearancePalette", "empty")

    def test_loss_curves_of_no_run(self, client, workflow):
        prompt = guided_run(workflow)
        only(prompt, "LikenessLossCurves")["latent"] = ["7", 0]
        for node in ("18", "19", "20"):
            del prompt[node]
        failure(client, prompt, "LikenessLossCurves", "latent")

    @pytest.mark.parametrize("kind", SAVED)
    @pytest.mark.parametrize("prefix", ["../../escaped", "a/../../../escaped"])
    def test_saving_outside_of_the_output_folder(self, client, workflow, host, kind, prefix):
        prompt = workflow(SAVED[kind][0])
        node = {"palette": "LikenessSavePalette", "template": "LikenessSaveTemplate"}[kind]
        only(prompt, node).pop("after", None)
        only(prompt, node)["filename_prefix"] = prefix
        failure(client, prompt, node, "expected a name below output/likeness_", prefix, "change filename_prefix")
        assert not list(host.base.rglob("escaped*")) and not list(host.base.parent.glob("escaped*"))

    @pytest.mark.parametrize("kind", SAVED)
    @pytest.mark.parametrize(
        "name", ["../outside.safetensors", "../../outside.safetensors", "{output}/outside.safetensors", "nothing"]
    )
    def test_loading_from_outside_of_the_folder(self, client, workflow, host, saved, kind, name):
        path, output = saved(kind), host.base / "output"
        copies = [output / "outside.safetensors", host.base / "outside.safetensors"]
        prompt = workflow(SAVED[kind][1])
        only(prompt, {"palette": "LikenessLoadPalette", "template": "LikenessLoadTemplate"}[kind])["file"] = (
            name.format(output=output)
        )
        try:
            for copy in copies:
                copy.write_bytes(path.read_bytes())
            with pytest.raises(Rejected, match=f"expected a saved {kind}"):
                client.run(prompt)
        finally:
            for copy in copies:
                copy.unlink()

    def test_a_file_of_another_kind(self, client, workflow, saved):
        palette, template = saved("palette"), saved("template")
        palette.write_bytes(template.read_bytes())
        failure(client, workflow("use_saved_palette"), "LikenessLoadPalette", "palette", "another kind of file")

    def test_a_file_without_a_part_of_it(self, client, workflow, saved):
        rewritten(saved("template"), maps="[]")
        failure(client, workflow("use_saved_template"), "LikenessLoadTemplate", "complete")
