"""
The untrained parts of the small IF: tokenizer, T5, UNet and sampler.

Blocks and names are those of DeepFloyd/IF-I-XL-v1.0 at reduced widths. 22 layers read the text
through `add_k_proj` and `add_v_proj`, and `add_embedding` pools it. Prompts have 77 tokens, and the
layers read the padding too. Pictures have 16 x 16 pixels.
"""

import json
import string
from collections import Counter
from math import log
from pathlib import Path

import numpy as np
from diffusers import DDPMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram
from transformers import T5Config, T5EncoderModel, T5Tokenizer

from loco_cli.tiny.world.captions import all_scenes, draw_caption, word_caption

WIDTHS = (32, 48, 64, 64)
D_TEXT = 96  # width of T5 and of the context that the layers read
N_TOKENS = 77
SIZE = 16  # pixels
PAD, END, MASK = 0, 1, 2
_SPECIAL = ["<pad>", "</s>", "<unk>"]


def make_tokenizer(folder: Path, n_pieces: int = 200, seed: int = 0) -> T5Tokenizer:
    """
    Learn pieces from captions of every scene, write the files, and return the tokenizer.

    The pieces come from byte-pair encoding, because a unigram trainer returns single letters for so
    few words. Their scores are log frequencies, as in a unigram model.
    """
    rng = np.random.default_rng(seed)
    captions = [
        word_caption(rng, draw_caption(rng, scene)) for _ in range(40) for scene in all_scenes()
    ]
    learner = Tokenizer(BPE())
    learner.pre_tokenizer = _pieces_of_words()
    trainer = trainers.BpeTrainer(
        vocab_size=n_pieces,
        initial_alphabet=["▁", *string.ascii_lowercase, *string.digits, *",.'-"],
        show_progress=False,
    )
    learner.train_from_iterator(captions, trainer)
    counts = Counter(piece for caption in captions for piece in learner.encode(caption).tokens)
    n_pieces_read = sum(counts.values())
    scores = [(p, log((counts[p] + 0.1) / n_pieces_read)) for p in sorted(learner.get_vocab())]
    pieces = [*((special, 0.0) for special in _SPECIAL), *scores]
    tokenizer = Tokenizer(Unigram(pieces, unk_id=MASK, byte_fallback=False))
    tokenizer.pre_tokenizer = _pieces_of_words()
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", END)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": 0, "model_max_length": N_TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return T5Tokenizer.from_pretrained(folder)


def _pieces_of_words() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )


def make_text_encoder(n_pieces: int) -> T5EncoderModel:
    """Return an untrained T5 1.1 encoder of three layers."""
    return T5EncoderModel(
        T5Config(
            vocab_size=n_pieces,
            d_model=D_TEXT,
            d_ff=2 * D_TEXT,
            d_kv=D_TEXT // 4,
            num_heads=4,
            num_layers=3,
            feed_forward_proj="gated-gelu",
            tie_word_embeddings=False,
            is_encoder_decoder=False,
            dropout_rate=0.0,
        )
    )


def make_unet() -> UNet2DConditionModel:
    """Return an untrained UNet of the first stage of IF with 3.6 M parameters."""
    return UNet2DConditionModel(
        act_fn="gelu",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        attention_head_dim=16,
        block_out_channels=WIDTHS,
        cross_attention_dim=D_TEXT,
        cross_attention_norm="group_norm",
        down_block_types=("ResnetDownsampleBlock2D", *["SimpleCrossAttnDownBlock2D"] * 3),
        encoder_hid_dim=D_TEXT,
        encoder_hid_dim_type="text_proj",
        in_channels=3,
        layers_per_block=3,
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        norm_num_groups=8,
        out_channels=6,  # the last three predict the variance, which the sampler ignores
        resnet_time_scale_shift="scale_shift",
        sample_size=SIZE,
        time_embedding_act_fn="gelu",
        up_block_types=(*["SimpleCrossAttnUpBlock2D"] * 3, "ResnetUpsampleBlock2D"),
    )


def make_scheduler() -> DDPMScheduler:
    """
    Return the sampler, with the noise schedule of IF and a fixed variance.

    The UNet predicts velocity. If it predicted the noise, the first steps would lose the colours of
    such small pictures.
    """
    return DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type="v_prediction",
        variance_type="fixed_small",
        clip_sample=True,
        timestep_spacing="trailing",
    )
