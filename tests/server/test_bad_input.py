"""Bad input over HTTP: a message of one sentence, and a server that goes on serving."""

import pytest
import torch
from likeness.demo.launcher.client import Rejected
from likeness.demo.world.subjects import SUBJECTS
from likeness.tests.server.prompts import failure, only

NAME = next(iter(SUBJECTS))


class Code:
    """An object that runs code when it is unpickled."""

    def __reduce__(self):
        return (print, ("code ran",))


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
    def test_a_saved_file_that_is_cut_off(self, client, workflow, stored, saving, using, loader, file):
        path = stored(saving, file)
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
