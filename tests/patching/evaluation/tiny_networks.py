"""Tiny networks of random weights in folders of the published ones' names."""

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

LAYERS = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
WORDS = ["a", "dog</w>", "a</w>", "d", "o", "g</w>", "og</w>", "<|startoftext|>", "<|endoftext|>"]


def write_networks(place: Path, side: int = 224) -> Path:
    """Writes a CLIP and a DINO. side: of the pictures that they were made for."""
    torch.manual_seed(0)
    text = LAYERS | {"vocab_size": len(WORDS), "bos_token_id": 7, "eos_token_id": 8, "max_position_embeddings": 12}
    vision = LAYERS | {"image_size": side, "patch_size": 16}
    clip = place / "clip-vit-base-patch32"
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).save_pretrained(clip)
    (clip / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (clip / "merges.txt").write_text("#version: 0.2\no g</w>\nd og</w>\n")
    settings = ViTConfig(image_size=side, patch_size=16, **LAYERS)  # pyright: ignore[reportArgumentType]
    ViTModel(settings, add_pooling_layer=False).save_pretrained(place / "dino-vits16")
    return place
