"""Tokenizers for pipelines, where a folder has not all that transformers would need."""

import json
from pathlib import Path

from transformers import CLIPTokenizer, PreTrainedTokenizerFast

from loco_cli.encoders.tokenizer import load_tokenizer
from loco_cli.families import registry
from loco_cli.families.spec import ModelSpec


def packaged_tokenizers(config: Path) -> dict[str, CLIPTokenizer]:
    """Return the CLIP tokenizers of a folder that leaves their vocabulary to the package."""
    files = {"vocab": str(registry.CLIP_VOCABULARY), "merges": str(registry.CLIP_MERGES)}
    return {
        settings.parent.name: CLIPTokenizer(**files, **json.loads(settings.read_text("utf-8")))
        for settings in sorted(config.glob("tokenizer*/tokenizer_config.json"))
        if not (settings.parent / "vocab.json").exists()
    }


def piece_tokenizers(folder: Path, spec: ModelSpec) -> dict[str, PreTrainedTokenizerFast]:
    """
    Return the tokenizers that a folder has as a sentencepiece model only.

    Transformers reads one with the library of that name, which need not be installed.
    """
    return {
        encoder.tokenizer: PreTrainedTokenizerFast(
            tokenizer_object=load_tokenizer(
                folder / encoder.tokenizer, encoder.kind, encoder.n_tokens
            ).backend,
            eos_token="</s>",
            pad_token="<pad>",
            unk_token="<unk>",
            model_max_length=encoder.n_tokens,
        )
        for encoder in spec.context.encoders
        if (folder / encoder.tokenizer / "spiece.model").is_file()
        and not (folder / encoder.tokenizer / "tokenizer.json").is_file()
    }
