"""LikenessLayerProbe on networks in which one block is built to follow positions, and one to follow content."""

import comfy.model_management
import pytest
import torch
from likeness.nodes.layer_probe import LikenessLayerProbe
from likeness.patching.features.layer_probe import probe
from likeness.patching.features.layer_report import plot, table
from likeness.patching.host.blocks import parse
from likeness.patching.host.families import discover
from likeness.patching.host.notices import Notices
from likeness.patching.host.window import Window
from likeness.tests.patching import tiny_dits, tiny_models

BUILT = 91
"""Seed of networks that these tests change."""
UNROTATED, COLUMNS = slice(0, 8), slice(20, 32)
"""Channels of Flux's heads whose rotation counts pictures, and those whose rotation counts columns."""


def probed(model, conditioning, latent, **options):
    given = {"blocks": "all", "share": 0.01, "window": Window(0.4, 0.6), "levels": 1, "seed": 0, **options}
    return probe(model, conditioning, latent, notices=Notices("Node"), node="Node", **given)


def built_flux():
    """A Flux in which double1 follows content, single1 follows columns, and every other block neither."""
    model = tiny_dits.tiny_dit("flux", BUILT)
    network = model.model.diffusion_model
    norms = [b.img_attn.norm for b in network.double_blocks] + [b.norm for b in network.single_blocks]
    with torch.no_grad():
        for norm in norms:
            next(norm.key_norm.parameters()).zero_()
        next(norms[1].key_norm.parameters())[UNROTATED] = 20.0
        next(norms[3].key_norm.parameters())[COLUMNS] = 20.0
        linear, width = network.single_blocks[1].linear1, 2 * network.hidden_size
        linear.weight[:width] = 0.0
        linear.bias[:width] = 1.0
    return model


def test_it_finds_the_blocks_of_a_built_transformer():
    found = probed(built_flux(), tiny_dits.conditioning(), tiny_dits.latent("flux"))
    assert (found.content_text, found.position_text) == ("double1", "single1")
    assert found.of_content[1] > 3 * found.of_position[1]
    assert found.of_position[3] > 0.01 and found.of_content[3] < 1e-4 * found.of_position[3]
    assert max(found.of_content[i] for i in (0, 2, 3, 4)) < 0.01 * found.of_content[1]


def test_it_finds_the_block_of_a_built_unet():
    model = tiny_models.tiny_model("sd1", seed=BUILT)
    network = model.model.diffusion_model
    with torch.no_grad():
        for name, module in network.named_modules():
            if name.endswith("attn1.to_k") and not name.startswith("output_blocks.5."):
                module.weight.zero_()
            elif name.endswith("attn1.to_k"):
                module.weight.mul_(20)
    found = probed(model, tiny_models.conditioning(model), tiny_models.latent(1, 16, 16), blocks="middle0 output4-6")
    assert found.content_text == "output5"
    others = [change for block, change in zip(found.blocks, found.of_content, strict=True) if block.name != "output5"]
    assert max(others) == 0.0


def check(model, conditioning, latent, run, chosen="all"):
    before, options = run(), repr(model.model_options)
    first = probed(model, conditioning, latent, share=0.5, blocks=chosen)
    blocks = discover(model, "Node")
    assert first.blocks == parse(chosen, blocks, "Node")
    assert all(p > 0 and c > 0 for p, c in zip(first.of_position, first.of_content, strict=True))
    assert parse(first.content_text, blocks, "Node") == first.content
    assert not set(first.content) & set(first.position) and first.content and first.position
    assert repr(model.model_options) == options and torch.equal(run(), before)


def test_transformers(dit):
    model = tiny_dits.tiny_dit(dit)
    given = tiny_dits.conditioning(), tiny_dits.latent(dit, 1, 7, 9)
    check(model, *given, lambda: tiny_dits.run_ksampler(model, dit, latent_image=given[1], steps=1))


def test_unets(family, model):
    given = tiny_models.conditioning(model), tiny_models.latent(1, 16, 16)
    check(model, *given, lambda: tiny_models.run_ksampler(model, latent_image=given[1], steps=1), "middle0 output5")


def test_pictures_and_levels_are_averaged():
    model, prompt = tiny_dits.tiny_dit("flux"), tiny_dits.conditioning()
    image = tiny_dits.latent("flux", 2)
    both = probed(model, prompt, image, blocks="double0", levels=2)
    assert both.of_position != probed(model, prompt, image, blocks="double0").of_position
    same = {"samples": image["samples"][:1].repeat(2, 1, 1, 1), "batch_index": [0, 0]}
    one, again = (probed(model, prompt, {"samples": image["samples"][:1]}, blocks="double0") for _ in range(2))
    assert one == again
    assert probed(model, prompt, same, blocks="double0").of_position == pytest.approx(one.of_position, rel=1e-4)


def skipping(args, extra):
    return {"img": args["img"], "txt": args["txt"]}


def test_what_cannot_be_tested_is_refused():
    model, prompt = tiny_dits.tiny_dit("flux"), tiny_dits.conditioning()
    image = tiny_dits.latent("flux")
    with pytest.raises(ValueError, match=r"^Node: expected a latent at least 4 wide, to move it .* got 3; connect"):
        probed(model, prompt, tiny_dits.latent("flux", 1, 8, 3))
    skipped = model.clone()
    skipped.set_model_patch_replace(skipping, "dit", "double_block", 1)
    with pytest.raises(ValueError, match=r"^Node: expected the model to reach double1, got a model call without it;"):
        probed(skipped, prompt, image)
    dead = tiny_dits.tiny_dit("flux", BUILT + 1)
    with torch.no_grad():
        for block in dead.model.diffusion_model.double_blocks:
            block.img_attn.proj.weight.zero_()
    with pytest.raises(ValueError, match=r"^Node: expected blocks whose attention changes the picture, got none"):
        probed(dead, prompt, image, blocks="double1")
    with pytest.raises(ValueError, match=r"^Node: expected blocks among double0, .* got 'output3'; change blocks"):
        probed(model, prompt, image, blocks="output3")
    with pytest.raises(ValueError, match=r"^Node: expected one prompt, got 2 combined; connect"):
        probed(model, [*prompt, *prompt], image)
    with pytest.raises(ValueError, match=r"^Node: expected a plain prompt, got one with area; connect"):
        probed(model, [[prompt[0][0], {**prompt[0][1], "area": (4, 4, 0, 0)}]], image)


def test_it_can_be_interrupted():
    comfy.model_management.interrupt_current_processing(True)
    try:
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            probed(tiny_dits.tiny_dit("flux"), tiny_dits.conditioning(), tiny_dits.latent("flux"))
    finally:
        comfy.model_management.interrupt_current_processing(False)


def test_the_node_says_its_cost_and_its_result(caplog):
    caplog.set_level("INFO")
    given = tiny_dits.tiny_dit("flux"), tiny_dits.conditioning(), tiny_dits.latent("flux", 2)
    window = {"start_percent": 0.2, "end_percent": 0.8}
    made = LikenessLayerProbe.execute(*given, blocks="double0-1", share=0.5, noise_levels=2, seed=0, **window)
    content, position, text, picture = made.args
    assert {content, position} == {"double0", "double1"}
    cost = "Layer Probe: 12 model calls of 3 pictures each: 2 x 2 x (2 + 1), for pictures, noise levels and blocks."
    assert cost in caplog.text and f"content: {content}; position: {position}." in caplog.text
    assert [line.split(" | ")[0] for line in text.splitlines()[2:]] == ["| double0", "| double1"]
    assert picture.shape[0] == 1 and picture.std() > 0


def test_the_report_shows_each_blocks_side():
    found = probed(built_flux(), tiny_dits.conditioning(), tiny_dits.latent("flux"))
    sides = {row.split(" | ")[0][2:]: row.split(" | ")[4].strip(" |") for row in table(found).splitlines()[2:]}
    assert sides == {"double0": "", "double1": "content", "single0": "", "single1": "position", "single2": ""}
    pixels = (255 * plot(found)[0]).round().int()
    for color in ((30, 90, 200), (200, 60, 40)):
        assert (pixels[26:] == torch.tensor(color)).all(-1).any()
