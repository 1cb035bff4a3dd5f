"""A subject gives what the nodes for references, palettes and sets give for the same photographs, bit for bit."""

import pytest
import torch
from likeness.nodes import AppearancePalette, JointImageSampler, LikenessAttentionMaps, LikenessReference
from likeness.patching.features.references import OWN_SIZE, TRAINING_SIZE
from likeness.patching.host.families import preset
from likeness.patching.host.family import COARSE
from likeness.patching.host.identity import identity_of
from likeness.patching.host.notices import Notices
from likeness.patching.jedi.build import Widgets, joint_guider
from likeness.patching.jedi.sampling import sample_set
from likeness.patching.pick_and_draw.build_palette import PER_LEVEL
from likeness.patching.subject.borrowing import members_of, palette_of, reference_of
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of, model_of
from likeness.tests.patching.subject.subjects import SIDE, Averages, mask, photo, prompt_of, subject_of
from likeness.tests.patching.tiny_models import latent

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("as_the_host_runs")]
LEVELS = (2.0, 1.0)


def same_references(model, first, second, steps=2):
    assert len(first.items) == len(second.items)
    identity = identity_of(model)
    for one, other in zip(first.items, second.items, strict=True):
        assert torch.equal(one.latent["samples"], other.latent["samples"])
        assert (one.mask is None) == (other.mask is None)
        assert one.mask is None or torch.equal(one.mask, other.mask)
        assert (one.kind, one.seed, one.weight, one.inversion_steps) == (
            other.kind,
            other.seed,
            other.weight,
            other.inversion_steps,
        )
        here, there = (item.source(model, LEVELS, "test", identity) for item in (one, other))
        for level in LEVELS:
            assert torch.equal(here.at(level), there.at(level))


def by_node(vae, prompt, image, mask=None, more=None, **widgets):
    widgets = {"source": "inverted", "seed": 0, "weight": 1.0, "size": OWN_SIZE, "inversion_steps": 2, **widgets}
    made = LikenessReference.execute(image, vae, prompt.neutral_conditioning, mask=mask, more=more, **widgets)
    return made.args[0]


def test_a_reference_is_that_of_the_reference_node():
    model, vae, prompt = model_of(), Averages(), prompt_of()
    first, second = photo(1), photo(2, SIDE, 2 * SIDE, count=2)
    wide = torch.nn.functional.pad(mask(), (0, SIDE))
    subject = subject_of(first, second, masks={"mask0": mask(), "mask1": wide}, inversion_steps=2)
    found = reference_of(subject, model, vae, prompt)
    expected = by_node(vae, prompt, second, wide, more=by_node(vae, prompt, first, mask()))
    same_references(model, found, expected)


def test_attention_masks_a_reference_as_the_nodes_for_it_do():
    model, vae, prompt, image = model_of(), Averages(), prompt_of(), photo(1)
    found = reference_of(subject_of(image, inversion_steps=2), model, vae, prompt, source="noised")
    maps = LikenessAttentionMaps.execute(
        model=model,
        clip=clip_of(),
        latent={"samples": vae.encode(image)},
        start_percent=0.2,
        end_percent=0.8,
        noise_levels=4,
        text="",
        word="",
        blocks=" ".join(preset(model, COARSE, "test")),
        group_by="together",
        seed=0,
        subject_prompt=prompt,
        wording="neutral",
    )
    masked = (maps.args[0] > 0.3).float()
    assert 0 < masked.mean() < 1
    same_references(model, found, by_node(vae, prompt, image, masked, source="noised"))


@pytest.mark.parametrize("masks", [{}, {"mask0": mask(), "mask1": mask()}], ids=["attention", "masks"])
def test_a_palette_is_that_of_the_palette_node(masks):
    model, vae, prompt = model_of(), Averages(), prompt_of()
    images = photo(1), photo(2)
    found = palette_of(subject_of(*images, masks=masks), model, vae, prompt, source="noised")
    expected = None
    for i, image in enumerate(images):
        widgets = {"source": "noised", "seed": 0, "weight": 1.0, "blocks": "paper", "map_blocks": "paper"}
        made = AppearancePalette.execute(
            model=model,
            clip=clip_of(),
            **widgets,
            threshold=0.3,
            start_percent=0.0,
            end_percent=1.0,
            image=image,
            vae=vae,
            mask=masks.get(f"mask{i}"),
            more=expected,
            size=OWN_SIZE,
            subject_prompt=prompt,
        )
        expected = made.args[0]
    assert expected is not None
    same_references(model, found.references, expected.references)
    for name in ("blocks", "family", "context", "window", "kind", "subjects"):
        assert getattr(found, name) == getattr(expected, name)


def test_a_set_is_that_of_the_joint_sampler():
    model, vae, prompt = model_of(), Averages(), prompt_of()
    images = photo(1), photo(2, SIDE, SIDE // 2)
    widgets = {
        "cfg": 3.0,
        "guidance": "joint",
        "image_cfg": 3.0,
        "strength": 1.0,
        "blocks": "decoder",
        "reference_noise": "fresh",
        "channel_order": "automatic",
    }
    sampling = {"steps": 2, "sampler": "euler", "scheduler": "normal", "denoise": 1.0}
    members = members_of(subject_of(*images, area="whole picture"), model, vae, prompt)
    guider = joint_guider(
        model,
        prompts=[prompt.vanilla_conditioning],
        negative=prompt.negative_conditioning,
        references=[members],
        captions=[],
        widgets=Widgets(**widgets),
        node="test",
    )
    found = sample_set(guider, latent(1, 8, 8), pictures=1, seeds=[3], **sampling, node="test")
    chain = by_node(vae, prompt, images[1], more=by_node(vae, prompt, images[0], source="noised"), source="noised")
    expected = JointImageSampler.execute(
        [model],
        [prompt.vanilla_conditioning],
        [prompt.negative_conditioning],
        [latent(1, 8, 8)],
        [3],
        **{name: [value] for name, value in sampling.items()},
        references=[chain],
        **{name: [value] for name, value in widgets.items()},
    )
    assert torch.equal(found["samples"], expected.args[0]["samples"])


def test_a_kept_palette_says_again_what_it_has_said():
    given = (subject_of(photo(1), masks={"mask0": mask()}), model_of(), Averages(), prompt_of())
    told = Notices("Node"), Notices("Node")
    made = [palette_of(*given, source="noised", saliency=PER_LEVEL, notices=one) for one in told]
    assert made[0] is made[1]
    assert told[0].sentences and told[1].sentences == told[0].sentences


def test_masks_and_palettes_are_made_once():
    model, vae, prompt, subject = model_of(), Averages(), prompt_of(), subject_of(photo(1))
    palette = palette_of(subject, model, vae, prompt, source="noised")
    assert palette_of(subject, model, vae, prompt, source="noised") is palette
    assert palette_of(subject, model, vae, prompt, source="noised", seed=1) is not palette
    reference_of(subject, model, vae, prompt)
    calls = len(vae.sizes)
    reference_of(subject, model, vae, prompt)
    assert len(vae.sizes) == calls
    assert palette_of(subject, model_of("sd2"), vae, prompt, source="noised") is not palette


def test_photographs_are_fitted_to_the_model():
    """512 pixels for SD 1.x, 1024 for SDXL, whatever the size of the photograph."""
    vae, prompt = Averages(), prompt_of()
    subject = subject_of(photo(1, 1800, 1200), area="whole picture", size=TRAINING_SIZE)
    for family, size in (("sd1", (640, 448)), ("sdxl", (1248, 832))):
        made = reference_of(subject, model_of(family), vae, prompt).fitted(model_of(family), "test")
        assert made.items[0].size == (size[0] // 8, size[1] // 8)


@pytest.mark.parametrize("masks", [{}, {"mask0": mask()}], ids=["attention", "mask"])
def test_inversions_have_the_steps_that_the_subject_asks_for(masks):
    model, vae, prompt = model_of(), Averages(), prompt_of()
    subject = subject_of(photo(1), masks=masks, inversion_steps=2)
    found = palette_of(subject, model, vae, prompt).references.items + reference_of(subject, model, vae, prompt).items
    assert [item.inversion_steps for item in found] == [2, 2]
