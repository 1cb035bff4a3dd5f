"""Networks in this process: instances by a detector and Segment Anything, and captions by BLIP-2."""

import numpy as np
import pytest
import torch
from likeness.demo.launcher.files import Problem
from likeness.lab.s3.blip2 import Blip2
from likeness.lab.s3.detected import Detected
from likeness.lab.s3.plan import Row
from likeness.lab.s3.studio import png
from likeness.patching.layout_and_retouch import segment
from PIL import Image

ROW = Row(0, "mug", 0)


def test_instances_are_cut_out_inside_their_boxes(monkeypatch):
    seen = []

    class Boxes:
        def boxes(self, picture, noun):
            return [] if noun == "nothing" else [(4.0, 4.0, 20.0, 20.0), (24.0, 4.0, 36.0, 30.0)]

    def masks(patcher, images, asked):
        seen.append([one.box.tolist() for one in asked])
        found = torch.zeros(len(asked), 40, 40)
        for mask, one in zip(found, asked, strict=True):
            left, top, right, bottom = map(int, one.box)
            mask[top + 1 : bottom - 1, left + 1 : right - 1] = 1
        return found

    facts = {"name": "grounding-dino-tiny", "sam": "sam.pth", "threshold": 0.3}
    one = Detected(facts, [], "cpu")
    one.detector, one.segmenter = Boxes(), None  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setattr(segment, "segment", masks)
    collage = Image.fromarray(np.full((40, 40, 3), 90, np.uint8))
    cuts = one.segment(ROW, collage)
    assert [cut.picture.size for cut in cuts] == [(14, 14), (10, 24)] and not any(cut.dropped for cut in cuts)
    assert seen == [[[4, 4, 20, 20], [24, 4, 36, 30]]] and cuts[0].picture.mode == "RGBA"
    assert one.segment(Row(0, "nothing", 0), collage) == []


def test_missing_networks_are_one_sentence(tmp_path):
    with pytest.raises(Problem, match=r"Expected the weights grounding-dino-tiny \(689 MB, Apache-2.0\) in "):
        _ = Detected({"name": "grounding-dino-tiny", "sam": "", "threshold": 0.3}, [tmp_path], "cpu").detector
    with pytest.raises(Problem, match=r"expected a Segment Anything checkpoint.*got 'no.pth'; download one there"):
        _ = Detected({"name": "", "sam": "no.pth", "threshold": 0.3}, [tmp_path], "cpu").segmenter
    (tmp_path / "config.json").write_text("{}")
    picture = png(Image.new("RGB", (8, 8)))
    with pytest.raises(Problem, match=r"Expected BLIP-2 in .*, got files that cannot be loaded \(.*\): put those of"):
        Blip2(tmp_path).answer("", 0, picture)
    with pytest.raises(Problem, match="BLIP-2 captions pictures and answers no text: name another model for prompts"):
        Blip2(tmp_path).answer("hello", 0)


@pytest.fixture(scope="module")
def blip(tmp_path_factory):
    """Folder of a tiny BLIP-2 of random weights with a tokenizer of single letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        Blip2Config,
        Blip2ForConditionalGeneration,
        Blip2Processor,
        BlipImageProcessor,
        PreTrainedTokenizerFast,
    )

    place = tmp_path_factory.mktemp("blip")
    torch.manual_seed(0)
    words = ["<pad>", "<s>", "</s>", "<unk>", "<image>", "mug", "dog", "red"]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    layers = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {"model_type": "opt", "vocab_size": len(words), "hidden_size": 16, "ffn_dim": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "word_embed_proj_dim": 16, "max_position_embeddings": 128}
    text |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    config = Blip2Config(
        vision_config={**layers, "image_size": 32, "patch_size": 16},
        qformer_config={**layers, "encoder_hidden_size": 16, "vocab_size": len(words)},
        text_config=text,
        num_query_tokens=4,
        image_token_index=4,
    )
    Blip2ForConditionalGeneration(config).save_pretrained(place)
    size = {"height": 32, "width": 32}
    Blip2Processor(BlipImageProcessor(size=size), fast, num_query_tokens=4).save_pretrained(place)
    return place


def test_blip2_captions_a_picture(blip):
    first = png(Image.new("RGB", (40, 40), "red"))
    said = Blip2(blip).answer("ignored", 0, first)
    assert isinstance(said, str) and said == Blip2(blip).answer("", 1, first)
    assert set(said.split()) <= {"mug", "dog", "red", "<unk>", "<image>"}
