"""Checkpoints of a known shape with random weights, for timing: speed does not depend on what a network has learned."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from transformers import BertConfig, BertModel

# (hidden numbers, layers, heads, inner numbers)
SHAPES = {"minilm": (384, 6, 12, 1536), "bert-base": (768, 12, 12, 3072), "bert-large": (1024, 24, 16, 4096)}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def save_random_bert(shape: str, tokenizer: Path, folder: Path) -> Path:
    """A BERT of this shape, with the tokenizer of another checkpoint; its folder."""
    width, layers, heads, inner = SHAPES[shape]
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads, intermediate_size=inner
    )
    BertModel(config).save_pretrained(folder)
    for name in TOKENIZER_FILES:
        if (tokenizer / name).is_file():
            shutil.copy(tokenizer / name, folder / name)
    return folder
