"""A SUBJECT at the nodes for references and sets gives what chains of Reference Picture give, bit for bit."""

import pytest
import torch
from likeness.nodes import JointImageSampler, LikenessJointGuider, LikenessReference
from likeness.patching.features.references import OWN_SIZE
from likeness.tests.patching.pick_and_draw.guidance_runs import model_of
from likeness.tests.patching.subject.subjects import Averages, mask, photo, prompt_of, subject_of
from likeness.tests.patching.tiny_models import latent, tiny_model

pytestmark = pytest.mark.usefixtures("as_the_host_runs")
WIDGETS = {"guidance": "joint", "image_cfg": 3.0, "strength": 1.0, "blocks": "all", "reference_noise": "fresh"}
WIDGETS |= {"channel_order": "automatic", "cfg": 3.0}
VAE = Averages()
SAMPLING = {"seed": 3, "steps": 2, "sampler": "euler", "scheduler": "normal", "denoise": 1.0}


def reference(image, caption, **inputs):
    inputs = {"source": "noised", "seed": 0, "weight": 1.0, "size": OWN_SIZE, "inversion_steps": 2, **inputs}
    return LikenessReference.execute(image, VAE, caption, **inputs)


def joined(model, references, **inputs):
    prompt = prompt_of()
    texts = {"positive": [prompt.vanilla_conditioning], "negative": [prompt.negative_conditioning]}
    widgets = {name: [value] for name, value in {**WIDGETS, **SAMPLING}.items()}
    more = {name: [value] for name, value in inputs.items()}
    pictures = {"latent": [latent(1, 8, 8)], "references": references}
    return JointImageSampler.execute([model], **pictures, **texts, **widgets, **more).args[0]["samples"]


def test_a_reference_of_a_subject_has_its_photographs_and_masks():
    caption, images = prompt_of().neutral_conditioning, (photo(1), photo(2))
    masks = {"mask0": mask(), "mask1": mask()}
    found = reference(subject_of(*images, masks=masks, inversion_steps=2), caption, weight=2.0).args[0].items
    chain = reference(images[0], caption, mask=mask(), weight=2.0).args[0]
    expected = reference(images[1], caption, mask=mask(), weight=2.0, more=chain).args[0].items
    assert len(found) == len(expected) == 2
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.latent["samples"], other.latent["samples"])
        assert torch.equal(one.mask, other.mask)
        assert all(getattr(one, name) == getattr(other, name) for name in ("kind", "seed", "weight", "inversion_steps"))
        assert torch.equal(one.conditioning[0][0], other.conditioning[0][0])


def test_another_seed_or_weight_keeps_what_an_inversion_costs():
    caption, subject = prompt_of().neutral_conditioning, subject_of(photo(1), area="whole picture")
    (first,) = reference(subject, caption, source="inverted").args[0].items
    (second,) = reference(subject, caption, source="inverted", seed=6, weight=2.0).args[0].items
    assert second.inversions is first.inversions and second.bank is first.bank
    assert (first.weight, second.weight) == (1.0, 2.0)


def test_attention_finds_the_subject_where_a_model_is_connected():
    caption, subject = prompt_of().neutral_conditioning, subject_of(photo(1))
    made = reference(subject, caption, model=model_of(), subject_prompt=prompt_of())
    assert 0 < made.args[0].items[0].mask.mean() < 1
    for given, missing in (({}, "no model and no subject_prompt"), ({"model": model_of()}, "no subject_prompt")):
        with pytest.raises(ValueError, match=f"^Reference Picture: expected model and subject_prompt.* got {missing};"):
            reference(subject, caption, **given)


def test_inputs_without_use_for_a_picture_are_told(caplog):
    caption, whole = prompt_of().neutral_conditioning, subject_of(photo(1), area="whole picture")
    for image, why in ((photo(1), "image is no SUBJECT"), (whole, "nothing has to be found in the picture")):
        reference(image, caption, model=model_of())
        assert f"no effect of model, because {why}; disconnect it." in caplog.text
        caplog.clear()
    reference(whole, caption)
    assert not caplog.text
    with pytest.raises(ValueError, match=r"^Reference Picture: expected no mask beside a SUBJECT"):
        reference(whole, caption, mask=mask())


def test_a_set_with_a_subject_is_that_with_its_references():
    prompt, images = prompt_of(), (photo(1), photo(2))
    subject = subject_of(*images, masks={"mask0": mask(), "mask1": mask()})
    chain = reference(images[0], prompt.neutral_conditioning, mask=mask()).args[0]
    chain = reference(images[1], prompt.neutral_conditioning, mask=mask(), more=chain).args[0]
    found = joined(model_of(), [subject], vae=Averages(), subject_prompt=prompt)
    assert torch.equal(found, joined(model_of(), [chain]))
    assert not torch.equal(found, joined(model_of(), None))
    beside = {"vae": Averages(), "subject_prompt": prompt, "caption": prompt.vanilla_conditioning}
    captioned = joined(model_of(), [subject], **beside)
    assert torch.equal(captioned, joined(model_of(), [chain], caption=prompt.vanilla_conditioning))


def test_a_subject_needs_a_vae_and_a_prompt_beside_it(caplog):
    prompt = prompt_of()
    texts = {"positive": [prompt.vanilla_conditioning], "negative": [prompt.negative_conditioning]}
    widgets = {name: [value] for name, value in WIDGETS.items()}
    model, node = [tiny_model("sd1")], LikenessJointGuider
    with pytest.raises(ValueError, match=r"^Joint Guider: expected vae and subject_prompt .* got no subject_prompt;"):
        node.execute(model, references=[subject_of(photo())], vae=[Averages()], **texts, **widgets)
    node.execute(model, subject_prompt=[prompt], **texts, **widgets)
    assert "no effect of subject_prompt, because no SUBJECT is among references" in caplog.text
