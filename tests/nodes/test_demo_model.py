"""The demo nodes: real ComfyUI objects, and a message of one sentence for every wrong file."""

import numpy as np
import pytest
import torch
from likeness.demo.world.references import strip
from likeness.demo.world.subjects import SUBJECTS
from likeness.nodes.demo_model import (
    LikenessDemoJointModel,
    LikenessDemoModel,
    LikenessDemoSubject,
    LikenessDemoTransformer,
)
from likeness.patching.jedi.format import ATTACHMENT
from likeness.patching.tinyland import subject as demo_subject
from likeness.tests.patching import tiny_models
from PIL import Image

NAME = next(iter(SUBJECTS))


@pytest.fixture
def loaded(weights):
    return LikenessDemoModel.execute().result


def personalize(model, subject=NAME, strength=1.0, scene="in the snow"):
    return LikenessDemoSubject.execute(model, subject, strength, scene).result


def test_model_clip_and_vae_work_together(loaded):
    import nodes

    model, clip, vae = loaded
    positive = nodes.CLIPTextEncode().encode(clip, "a photo of a red fish in the sea")[0]
    negative = nodes.CLIPTextEncode().encode(clip, "")[0]
    latent = nodes.EmptyLatentImage().generate(128, 128, 2)[0]
    sampled = nodes.KSampler().sample(model, 1, 2, 4.0, "euler", "normal", positive, negative, latent)[0]
    images = nodes.VAEDecode().decode(vae, sampled)[0]
    assert images.shape == (2, 128, 128, 3) and images.isfinite().all()
    assert nodes.VAEEncode().encode(vae, images)[0]["samples"].shape == (2, 4, 16, 16)
    assert np.shape(model.model.latent_format.latent_rgb_factors) == (4, 3)


def test_joint_model_knows_its_channels(weights):
    model, clip, vae = LikenessDemoJointModel.execute().result
    assert model.model.diffusion_model.in_channels == 9 and model.get_attachment(ATTACHMENT).one_is_missing
    assert vae is not None and clip.encode_from_tokens(clip.tokenize("a photo of a fish")).isfinite().all()
    assert personalize(model)[0].patches, "its layers are those of the model that the subjects were tuned on"


def test_missing_or_truncated_joint_model_is_refused(weights):
    before = LikenessDemoJointModel.fingerprint_inputs()
    path = weights / "joint.safetensors"
    content, foreign = path.read_bytes(), (weights / "denoiser.safetensors").read_bytes()
    for damage in (content[: len(content) // 2], b"", foreign, None):
        path.unlink() if damage is None else path.write_bytes(damage)
        refusal(LikenessDemoJointModel.execute, "Demo Joint Model", path.name)
        assert LikenessDemoJointModel.fingerprint_inputs() != before


@pytest.fixture
def transformer(weights):
    return LikenessDemoTransformer.execute().result


def test_the_transformer_draws_with_the_demos_encoders(transformer):
    import nodes

    model, clip, vae = transformer
    text = nodes.CLIPTextEncode().encode(clip, f"a photo of a embedding:{NAME} in the sea")[0]
    latent = nodes.EmptyLatentImage().generate(128, 128, 2)[0]
    sampled = nodes.KSampler().sample(model, 1, 2, 4.0, "euler", "simple", text, text, latent)[0]
    images = nodes.VAEDecode().decode(vae, sampled)[0]
    assert images.shape == (2, 128, 128, 3) and images.isfinite().all() and images.std() > 0
    assert np.shape(model.model.latent_format.latent_rgb_factors) == (4, 3)


def test_a_subject_has_a_lora_for_the_transformer(transformer, loaded):
    import nodes

    model, clip, _ = transformer
    personalized, references, *prompts = personalize(model, "nemo")
    assert personalized.patches and not model.patches and personalized.model is model.model
    assert references.shape == (4, 128, 128, 3) and prompts == list(personalize(loaded[0], "nemo")[2:])
    text = nodes.CLIPTextEncode().encode(clip, prompts[0])[0]

    def sampled(m):
        latent = {"samples": torch.zeros(1, 4, 16, 16)}
        return nodes.KSampler().sample(m, 3, 2, 4.0, "euler", "simple", text, text, latent)[0]["samples"]

    plain, tuned = sampled(model), sampled(personalized)
    assert not torch.equal(tuned, plain)
    assert torch.equal(sampled(personalize(model, "nemo", strength=0.0)[0]), plain)


def test_a_subject_without_a_lora_for_the_transformer(transformer):
    model = transformer[0]
    refusal(lambda: personalize(model, "amanita"), "Demo Subject", "nemo, taxi", "'amanita'", "strength to 0")
    neutral, references, *_ = personalize(model, "amanita", strength=0.0)
    assert not neutral.patches and neutral is not model and references.shape[0] == 4


def test_missing_truncated_or_foreign_transformers_and_their_loras_are_refused(transformer, weights):
    path, model = demo_subject.of_transformer("nemo", weights), transformer[0]
    before = LikenessDemoSubject.fingerprint_inputs(subject="nemo")
    content, foreign = path.read_bytes(), (weights / "subjects" / "nemo.safetensors").read_bytes()
    for damage in (content[: len(content) // 2], b"", foreign, None):
        path.unlink() if damage is None else path.write_bytes(damage)
        refusal(lambda: personalize(model, "nemo"), "Demo Subject", "transformer", "nemo")
        assert LikenessDemoSubject.fingerprint_inputs(subject="nemo") != before
    before, path = LikenessDemoTransformer.fingerprint_inputs(), weights / "transformer.safetensors"
    content, foreign = path.read_bytes(), (weights / "denoiser.safetensors").read_bytes()
    for damage in (content[: len(content) // 2], b"", foreign, None):
        # Another file of this name: tensors are mapped from the first.
        path.unlink()
        if damage is not None:
            path.write_bytes(damage)
        refusal(LikenessDemoTransformer.execute, "Demo Transformer", path.name)
        assert LikenessDemoTransformer.fingerprint_inputs() != before


def test_words_of_the_prompt_reach_the_conditioning(loaded):
    clip = loaded[1]
    encoded = [
        clip.encode_from_tokens(clip.tokenize(text))
        for text in ("a photo of a fish", "a photo of a car", f"embedding:{NAME} car")
    ]
    assert not torch.equal(encoded[0], encoded[1])
    assert not torch.equal(encoded[1], encoded[2])


def test_subject_patches_a_clone(loaded):
    model = loaded[0]
    personalized, references, with_placeholder, without, neutral, word = personalize(model)
    assert personalized.patches and not model.patches
    assert personalized.model is model.model
    assert references.shape == (4, 128, 128, 3) and references.dtype == torch.float32
    assert with_placeholder == "a photo of a sks fish in the snow" and without == "a photo of a fish in the snow"
    assert neutral == "a photo of a sks fish" and word == "fish"
    assert personalize(model, scene="  ")[3] == "a photo of a fish"


def test_strength_zero_is_the_model_as_it_came(loaded):
    import nodes

    model, clip, _ = loaded
    text = nodes.CLIPTextEncode().encode(clip, "a photo of a sks fish")[0]
    latent = {"samples": torch.zeros(1, 4, 16, 16)}

    def sampled(m):
        return nodes.KSampler().sample(m, 3, 2, 4.0, "euler", "normal", text, text, latent)[0]["samples"]

    plain = sampled(model)
    unchanged = personalize(model, strength=0.0)[0]
    assert unchanged is not model and not unchanged.patches
    assert torch.equal(sampled(unchanged), plain)
    assert not torch.equal(sampled(personalize(model)[0]), plain)
    assert torch.equal(sampled(model), plain), "the vanilla model was changed by its personalized clone"


@pytest.mark.parametrize("name", SUBJECTS)
def test_bundled_pictures_are_the_subjects_renders(weights, name):
    with Image.open(weights / "subjects" / f"{name}.png") as picture:
        difference = np.abs(np.asarray(picture, dtype=int) - strip(SUBJECTS[name]))
    assert difference.mean() < 0.5  # other versions of Pillow may round edges differently


def refusal(action, *expected):
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        action()
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith("."), sentence
    for words in ("expected", "got", *expected):
        assert words in sentence.replace("found none", "got none"), sentence


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_another_models_subject_is_refused(weights, family):
    model = tiny_models.tiny_model(family)
    for strength in (1.0, 0.0):
        refusal(
            lambda s=strength: personalize(model, strength=s),
            "Demo Subject",
            "connect Demo Model to model",
        )


@pytest.mark.parametrize("file", ["denoiser", "autoencoder"])
def test_missing_or_truncated_model_is_refused(weights, file):
    path = weights / f"{file}.safetensors"
    content = path.read_bytes()
    for damage in (content[: len(content) // 2], content[:100], b"", None):
        path.unlink() if damage is None else path.write_bytes(damage)
        refusal(LikenessDemoModel.execute, "Demo Model", path.name)


def test_missing_truncated_or_foreign_lora_is_refused(loaded, weights):
    path = weights / "subjects" / f"{NAME}.safetensors"
    content = path.read_bytes()
    foreign = (weights / "autoencoder.safetensors").read_bytes()
    for damage in (content[: len(content) // 2], content[:100], b"", foreign, None):
        path.unlink() if damage is None else path.write_bytes(damage)
        refusal(lambda: personalize(loaded[0]), "Demo Subject", path.name)
    assert NAME in LikenessDemoSubject.GET_SCHEMA().inputs[1].options


def test_missing_truncated_or_misshapen_pictures_are_refused(loaded, weights):
    path = weights / "subjects" / f"{NAME}.png"
    content = path.read_bytes()
    Image.new("RGB", (128, 128)).save(path)
    for damage in (path.read_bytes(), content[: len(content) // 2], b"", None):
        path.unlink() if damage is None else path.write_bytes(damage)
        refusal(lambda: personalize(loaded[0]), "Demo Subject", path.name)


def test_a_changed_file_is_noticed(weights):
    before = LikenessDemoSubject.fingerprint_inputs(subject=NAME), LikenessDemoModel.fingerprint_inputs()
    (weights / "subjects" / f"{NAME}.png").unlink()
    (weights / "denoiser.safetensors").write_bytes(b"")
    after = LikenessDemoSubject.fingerprint_inputs(subject=NAME), LikenessDemoModel.fingerprint_inputs()
    assert before[0] != after[0] and before[1] != after[1]
