"""The names of the original layout, and their blocks and labels."""

from loco_cli.families import registry
from loco_cli.families.names import RowSlice
from loco_cli.families.recognise import single_file_aliases


def test_places_the_blocks_of_every_sd_family():
    """Blocks of the original layout have the same diffusers names in SD 1, SD 2 and SDXL."""
    names = {
        "input_blocks.4.1.transformer_blocks.9.attn2.to_k.weight": (
            "down_blocks.1.attentions.0.transformer_blocks.9.attn2.to_k.weight"
        ),
        "middle_block.1.proj_in.weight": "mid_block.attentions.0.proj_in.weight",
        "output_blocks.2.1.conv.bias": "up_blocks.0.upsamplers.0.conv.bias",
        "output_blocks.2.2.conv.bias": "up_blocks.0.upsamplers.0.conv.bias",
        "input_blocks.3.0.op.weight": "down_blocks.0.downsamplers.0.conv.weight",
        "label_emb.0.2.weight": "add_embedding.linear_2.weight",
    }

    for prefix in ("model.diffusion_model.", ""):
        places = single_file_aliases(prefix + name for name in names)
        assert [(place.component, place.name) for place in places] == [
            ("unet", name) for name in names.values()
        ]


def test_splits_what_open_clip_fuses():
    """An `in_proj` tensor stacks q, k and v, and `text_projection` is transposed."""
    prefix = "conditioner.embedders.1.model."
    fused = f"{prefix}transformer.resblocks.3.attn.in_proj_weight"

    places = list(single_file_aliases([fused, f"{prefix}text_projection"]))

    layer = "text_model.encoder.layers.3.self_attn"
    assert [(place.name, place.rows) for place in places[:3]] == [
        (f"{layer}.q_proj.weight", RowSlice(0, (1, 1, 1))),
        (f"{layer}.k_proj.weight", RowSlice(1, (1, 1, 1))),
        (f"{layer}.v_proj.weight", RowSlice(2, (1, 1, 1))),
    ]
    assert {place.component for place in places} == {"text_encoder_2"}
    assert (places[3].name, places[3].is_transposed) == ("text_projection.weight", True)


def test_completes_the_names_of_old_files():
    """EMA copies have names without dots, and NovelAI's CLIP has names without `text_model.`."""
    name = "encoder.layers.0.self_attn.q_proj.weight"
    names = {
        "model_ema.diffusion_modelinput_blocks00weight": ("unet_ema", "conv_in.weight"),
        f"cond_stage_model.transformer.{name}": ("text_encoder", f"text_model.{name}"),
    }

    _, *places = single_file_aliases(["model.diffusion_model.input_blocks.0.0.weight", *names])

    assert [(place.component, place.name) for place in places] == list(names.values())


def test_labels_blocks_of_a_unet():
    """A UNet block has its diffusers name and its IN, M or OUT label, except in DeepFloyd."""
    decoder, encoder = "decoder.up_blocks.0", "text_model.encoder.layers.7"
    blocks = {
        ("unet", "conv_in.weight"): ("conv_in", "IN00"),
        ("unet", "time_embedding.linear_1.bias"): ("time_embedding", None),
        ("vae", f"{decoder}.resnets.1.norm1.bias"): (decoder, None),
        ("text_encoder", f"{encoder}.mlp.fc1.bias"): (encoder, None),
    }
    labels = {
        "down_blocks.1.attentions.0": "IN04",
        "down_blocks.0.downsamplers.0": "IN03",
        "mid_block.attentions.0": "M00",
        "up_blocks.3.attentions.2": "OUT11",
        "up_blocks.1.upsamplers.0": "OUT05",
    }
    blocks |= {("unet", f"{block}.conv.bias"): (block, label) for block, label in labels.items()}

    family = registry.family("sd1")
    assert {key: family.block_of(*key) for key in blocks} == blocks
    deepfloyd = {
        ("unet", "down_blocks.1.attentions.2", "add_k_proj.weight"),
        ("text_encoder", "encoder.block.7", "layer.0.SelfAttention.o.weight"),
    }
    for component, block, name in deepfloyd:
        assert registry.family("if").block_of(component, f"{block}.{name}") == (block, None)
