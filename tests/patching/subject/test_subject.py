"""The Subject node, and how a subject's masks and words are found."""

import asyncio
import logging
import re
import types

import execution
import folder_paths
import pytest
import torch
from likeness.nodes import AppearancePalette, LikenessSegment, LikenessSubject
from likeness.patching.features.references import OWN_SIZE
from likeness.patching.layout_and_retouch import segment
from likeness.patching.pick_and_draw.saliency import saliency_map
from likeness.patching.subject.borrowing import members_of, palette_of, reference_of
from likeness.patching.subject.masks import found_masks
from likeness.tests import tiny_segmenter
from likeness.tests.patching.pick_and_draw.guidance_runs import clip_of, model_of
from likeness.tests.patching.subject.subjects import SIDE, Averages, mask, photo, prompt_of, subject_of
from likeness.tests.patching.tiny_models import tiny_model

import nodes

pytestmark = pytest.mark.usefixtures("as_the_host_runs")


def refusals(monkeypatch, kinds: dict[str, str], **widgets) -> list[str]:
    """The details of the host's errors for a node with links of these types."""
    source = types.SimpleNamespace(RETURN_TYPES=list(kinds.values()), INPUT_TYPES=lambda: {"required": {}})
    known = {"LikenessSubject": LikenessSubject, "Source": type("Source", (), vars(source))}
    monkeypatch.setattr(nodes, "NODE_CLASS_MAPPINGS", {**nodes.NODE_CLASS_MAPPINGS, **known})
    inputs = {name: ["source", i] for i, name in enumerate(kinds)} | widgets
    prompt = {
        "node": {"class_type": "LikenessSubject", "inputs": inputs},
        "source": {"class_type": "Source", "inputs": {}},
    }
    _, errors, _ = asyncio.run(execution.validate_inputs("prompt", prompt, "node", {}))
    return [error["details"] for error in errors]


@pytest.mark.parametrize(
    ("kinds", "widgets", "expected"),
    [
        ({"images.image0": "IMAGE", "images.image1": "IMAGE", "masks.mask1": "MASK"}, {}, ""),
        ({}, {}, "image0"),
        ({"images.image1": "IMAGE"}, {}, "image0"),
        ({"images.image0": "MASK"}, {}, "expected IMAGE for images.image0, got MASK; connect another output."),
        ({"images.image0": "IMAGE", "masks.mask2": "MASK"}, {}, "got mask2 alone; connect the photograph to image2"),
        ({"images.image0": "IMAGE"}, {"threshold": 2.0}, "expected threshold from 0.0 to 1.0, got 2.0"),
        ({"images.image0": "IMAGE"}, {"area": "gone.pth"}, "expected area among attention, whole picture, got gone"),
        ({"images.image0": "IMAGE"}, {"map_blocks": "x"}, "got 'x'; change map_blocks"),
    ],
)
def test_the_graph_editor_hears_of_it(monkeypatch, kinds, widgets, expected):
    monkeypatch.setattr(segment, "checkpoints", list)
    found = refusals(monkeypatch, kinds, **widgets)
    assert bool(found) == bool(expected)
    assert all(expected in sentence for sentence in found)


def test_a_word_that_is_not_in_the_prompt_is_refused():
    model, vae = model_of(), Averages()
    for word in ("dog", "ca"):
        with pytest.raises(ValueError, match=f"^Subject: expected a word of the prompt .*, got '{word}'"):
            reference_of(subject_of(photo(), word=word), model, vae, prompt_of())
    for word, token, expected in (("", True, "sks cat"), ("cat", True, "cat"), ("photo", False, "photo")):
        assert subject_of(photo(), word=word).caption(prompt_of(token)).word == expected
    # The class stands in the prompt, and the learned token in its place in the caption.
    assert subject_of(photo(), word="table").caption(prompt_of()).word == "sks cat"


def test_a_vae_that_is_missing_is_missed_where_it_is_connected():
    for borrow in (reference_of, palette_of, members_of):
        with pytest.raises(ValueError, match=r"^Likeness Sampler: expected a VAE, got none"):
            borrow(subject_of(photo()), model_of(), None, prompt_of(), node="Likeness Sampler")


def test_an_area_that_shows_no_subject_is_refused():
    with pytest.raises(ValueError, match=r"^Subject: .* above threshold 1, got nothing; lower threshold"):
        found_masks(subject_of(photo(), threshold=1.0), model_of(), Averages(), prompt_of(), "test")


def test_masks_are_given_or_found():
    model, vae, prompt = model_of(), Averages(), prompt_of()
    images, given = (photo(1), photo(2, SIDE, 200)), {"mask0": mask()}
    first, second = found_masks(subject_of(*images, masks=given), model, vae, prompt, "test")
    assert first is not None and torch.equal(first, mask())
    assert second is not None and second.shape == (1, SIDE, 200) and 0 < second.mean() < 1
    whole = found_masks(subject_of(*images, masks=given, area="whole picture"), None, None, None, "test")
    assert whole[0] is not None and torch.equal(whole[0], mask()) and whole[1] is None
    with pytest.raises(ValueError, match=r"^test: expected model and subject_prompt, .* got no model; connect them"):
        found_masks(subject_of(*images, masks=given), None, vae, prompt, "test")


def test_segment_anything_follows_the_attention(monkeypatch):
    asked = []

    def segmented(patcher, images, prompts):
        asked.append((patcher, prompts[0]))
        return torch.cat([mask()] * len(images))

    monkeypatch.setattr(segment, "load", lambda name: name)
    monkeypatch.setattr(segment, "segment", segmented)
    subject = subject_of(photo(1), area="sam_vit_b_01ec64.pth")
    (found,) = found_masks(subject, model_of(), Averages(), prompt_of(), "test")
    assert found is not None and torch.equal(found, mask())
    ((name, prompt),) = asked
    assert name == "sam_vit_b_01ec64.pth"
    assert prompt.box is not None and prompt.labels.tolist() == [1]


def test_segment_anything_gives_the_mask_of_its_node(monkeypatch, tmp_path):
    pytest.importorskip("segment_anything")
    tiny_segmenter.write(tmp_path)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "sams", ([str(tmp_path)], {".pth"}))
    model, vae, prompt, image = model_of(), Averages(), prompt_of(), photo(1)
    name = "sam_vit_b_01ec64.pth"
    (found,) = found_masks(subject_of(image, area=name), model, vae, prompt, "test")
    said = prompt.neutral
    latent = {"samples": vae.encode(image)}
    heat = saliency_map(model, clip_of(), latent, text=said.text, word=said.word, blocks="paper", seed=0, node="test")
    expected = LikenessSegment.execute(image, name, 0.3, "", "", "", heat).args[0]
    assert found is not None and torch.equal(found, expected)


def test_a_joint_checkpoint_sees_whole_photographs():
    prompt, images = prompt_of(), (photo(1), photo(2))
    joint = tiny_model("sd1", channels=9)
    subject = subject_of(*images, masks={"mask1": mask()})
    whole, masked = members_of(subject, joint, Averages(), prompt).items
    assert whole.mask is None and masked.mask is not None and torch.equal(masked.mask, mask()[0])
    assert all(item.mask is not None for item in members_of(subject, model_of(), Averages(), prompt).items)


def test_the_palette_node_takes_a_subject():
    model, vae, prompt = model_of(), Averages(), prompt_of()
    subject = subject_of(photo(1), photo(2, SIDE, 2 * SIDE))
    widgets = {"seed": 0, "weight": 1.0, "blocks": "paper", "map_blocks": "paper", "threshold": 1.0}
    picture = {"source": "noised", "vae": vae, "subject_prompt": prompt, "subject": subject}
    whole = {"start_percent": 0.0, "end_percent": 1.0}
    palette, masks, preview = AppearancePalette.execute(model, clip_of(), **picture, **widgets, **whole).args
    calls = len(vae.sizes)
    assert AppearancePalette.execute(model, clip_of(), **picture, **widgets, **whole).args[0] is palette
    assert palette_of(subject, model, vae, prompt, source="noised") is palette and len(vae.sizes) == calls
    more = AppearancePalette.execute(model, clip_of(), **picture, **widgets, **whole, more=palette).args[0]
    assert len(more.references.items) == 4
    assert len(palette.references.items) == len(masks) == len(preview) == 2
    expected = palette_of(subject, model, vae, prompt, source="noised")
    for one, other in zip(palette.references.items, expected.references.items, strict=True):
        assert torch.equal(one.mask, other.mask)
    types_ = {"subject": "LIKENESS_SUBJECT", "vae": "VAE"}
    assert AppearancePalette.validate_inputs(input_types=types_) is True
    for beside, said in (("image", "got image and subject"), ("mask", "got mask beside it")):
        assert said in str(AppearancePalette.validate_inputs(input_types={**types_, beside: beside.upper()}))


def test_the_node_says_what_finds_the_subject(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(segment, "checkpoints", list)
    made = LikenessSubject.execute({"image0": photo()}, {}, size=OWN_SIZE)
    assert "attention to its words finds the subject" in caplog.text
    assert re.match("1 photographs .1 of 128 x 128., 0 masked", str(made.args[0]))
    caplog.clear()
    LikenessSubject.execute({"image0": photo()}, {"mask0": mask()})
    LikenessSubject.execute({"image0": photo()}, area="whole picture")
    monkeypatch.setattr(segment, "checkpoints", lambda: ["sam.pth"])
    LikenessSubject.execute({"image0": photo()})
    assert not caplog.text
