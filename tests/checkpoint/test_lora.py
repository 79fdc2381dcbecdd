"""LoRA files: names, numbers as diffusers applies them, and metadata."""

import hashlib
import io

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

from loco_cli.checkpoint.header import read_header
from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.lora import (
    LowRank,
    is_lora,
    lora_metadata,
    lora_tensors,
    open_lora,
    write_lora,
)
from loco_cli.errors import CheckpointError
from loco_cli.families import registry
from loco_cli.families.recognise import single_file_aliases
from tests.families.layouts import write_folder
from tests.families.pictures import load_folder
from tests.families.small import small_model

ATTN2, ATTN2_KOHYA = "transformer_blocks.0.attn2.to_k", "transformer_blocks_0_attn2_to_k"
SELF_ATTN = "text_model.encoder.layers.0.self_attn"
SELF_ATTN_KOHYA = "text_model_encoder_layers_0_self_attn"
# text encoders of each small model, which an edit may change as well
ENCODERS = {
    "sd15": ("text_encoder",),
    "sd21": ("text_encoder",),
    "sdxl": ("text_encoder", "text_encoder_2"),
    "deepfloyd": (),
}


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def changes_of(model):
    """Return changes of every key and value projection, of ranks 1 to 4, and of an out_proj."""
    modules = [("unet", name.removesuffix(".weight")) for name in projections(model)]
    modules += [(encoder, f"{SELF_ATTN}.out_proj") for encoder in ENCODERS[model.name]]
    changes = []
    for seed, (component, module) in enumerate(modules):
        d_out, d_in = model.tensors[component][f"{module}.weight"].shape
        rank = 1 + seed % 4
        up, down = random(d_out, rank, seed=seed), random(rank, d_in, seed=1000 + seed)
        changes.append(LowRank(component, module, up, down))
    return changes


def projections(model):
    # IF has K and V of the picture as well, which are named otherwise
    ends = (".add_k_proj.weight", ".add_v_proj.weight", ".attn2.to_k.weight", ".attn2.to_v.weight")
    return [name for name in model.tensors["unet"] if name.endswith(ends)]


def write(path, tensors, metadata=None):
    with path.open("wb") as file:
        write_lora(file, tensors, metadata or {})
    return path


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl", "deepfloyd"])
def made(request, tmp_path_factory):
    """A small model's folder, changes of it, and the LoRA that holds them; only read."""
    model = small_model(request.param)
    root = tmp_path_factory.mktemp(request.param)
    folder = write_folder(root / "base", model, torch.float32)
    changes = changes_of(model)
    spelling = registry.family(model.family).lora
    path = write(root / "lora.safetensors", lora_tensors(spelling, changes))
    return model, folder, changes, path


@pytest.mark.filterwarnings("ignore:.*")  # diffusers and peft warn of unused keys
def test_base_and_lora_are_the_edited_model(made):
    """
    `load_lora_weights` turns each changed map into `W + up down`, and changes no other.
    """
    model, folder, changes, path = made
    pipe = load_folder(folder, model)
    parts = ["unet", *ENCODERS[model.name]]
    before = {part: states(pipe, part) for part in parts}

    pipe.load_lora_weights(path)
    pipe.fuse_lora(components=parts)
    pipe.unload_lora_weights()

    changed = {(change.component, f"{change.module}.weight"): change for change in changes}
    for part in parts:
        for name, after in states(pipe, part).items():
            change = changed.get((part, name))
            if change is None:
                assert torch.equal(after, before[part][name]), name
            else:
                wanted = before[part][name] + change.up @ change.down
                torch.testing.assert_close(after, wanted, rtol=0, atol=2e-6)


def states(pipe, part):
    """Return the tensors of a part of a pipeline, under the names that files have."""
    state = {name: value.clone() for name, value in getattr(pipe, part).state_dict().items()}
    is_bare = part == "text_encoder" and "final_layer_norm.weight" in state
    return {f"text_model.{name}" if is_bare else name: value for name, value in state.items()}


def test_reads_what_it_wrote(made):
    """
    `open_lora` finds each change in the file, whose factors are padded to one rank, its alpha.
    """
    model, folder, changes, path = made

    parts = open_lora(path, open_checkpoint(folder)).parts

    read = {(part.component, part.name): part.read() for part in parts}
    moved = {key: change for key, change in read.items() if change.any()}
    assert set(moved) == {(c.component, f"{c.module}.weight") for c in changes}
    for change in changes:
        found = read[change.component, f"{change.module}.weight"]
        wanted = change.up.double() @ change.down.double()
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    tensors = load_file(path)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    ups = [t for name, t in tensors.items() if name.endswith(("lora_up.weight", "lora_B.weight"))]
    downs = [t for n, t in tensors.items() if n.endswith(("lora_down.weight", "lora_A.weight"))]
    assert {up.shape[1] for up in ups} == {down.shape[0] for down in downs} == {4}
    alphas = [t for name, t in tensors.items() if name.endswith(".alpha")]
    n_alphas = 0 if model.family == "if" else len(ups)
    assert [(alpha.item(), alpha.shape) for alpha in alphas] == [(4.0, ())] * n_alphas


KOHYA_NAMES = (
    ("sd1 unet", f"down_blocks.0.attentions.1.{ATTN2}", "unet_down_blocks_0_attentions_1"),
    ("sd2 unet", f"mid_block.attentions.0.{ATTN2}", "unet_mid_block_attentions_0"),
    ("sdxl unet", f"down_blocks.1.attentions.0.{ATTN2}", "unet_input_blocks_4_1"),
    ("sdxl unet", f"mid_block.attentions.0.{ATTN2}", "unet_middle_block_1"),
    ("sdxl unet", f"up_blocks.1.attentions.2.{ATTN2}", "unet_output_blocks_5_1"),
    ("sd1 text_encoder", f"{SELF_ATTN}.out_proj", "te"),
    ("sdxl text_encoder", f"{SELF_ATTN}.out_proj", "te1"),
    ("sdxl text_encoder_2", f"{SELF_ATTN}.out_proj", "te2"),
)


def test_modules_have_the_names_of_other_programs():
    """
    Modules have the names of kohya, with original names for the UNet of SDXL, and of PEFT for IF.
    """
    for place, module, prefix in KOHYA_NAMES:
        family, component = place.split()
        end = ATTN2_KOHYA if component == "unet" else f"{SELF_ATTN_KOHYA}_out_proj"
        assert registry.family(family).lora.name(component, module) == f"lora_{prefix}_{end}"
    fc1 = registry.family("sd2").lora.name("text_encoder", "encoder.layers.7.mlp.fc1")
    assert fc1 == "lora_te_text_model_encoder_layers_7_mlp_fc1"
    module = "mid_block.attentions.0.add_k_proj"
    assert registry.family("if").lora.name("unet", module) == f"unet.{module}"


def test_original_names_of_a_lora_are_those_of_checkpoints():
    """
    Every layer of SDXL is renamed to the original layout and back.
    """
    spec = registry.get("sdxl")
    names = [name for layer in spec.layers for name in layer.tensor_names()]

    original = [str(spec.family.lora.original(name)) for name in names]

    assert [place.name for place in single_file_aliases(original)] == names


def test_an_open_clip_attention_is_complete():
    """
    Missing projections are written as zeros, as A1111 ignores an incomplete OpenCLIP attention.
    """
    change = LowRank("text_encoder", f"{SELF_ATTN}.out_proj", random(8, 2), random(2, 8))

    spellings = {name: family.lora for name, family in registry.catalog().families.items()}

    sd1 = lora_tensors(spellings["sd1"], [change])
    sd2 = lora_tensors(spellings["sd2"], [change, change])

    assert len(sd1) == 3
    names = [f"lora_te_{SELF_ATTN_KOHYA}_{p}_proj.lora_up.weight" for p in ("k", "out", "q", "v")]
    ups = {name: tensor for name, tensor in sd2.items() if name.endswith("lora_up.weight")}
    assert list(ups) == names
    assert [bool(up.any()) for up in ups.values()] == [False, True, False, False]
    mlp = "text_model.encoder.layers.0.mlp.fc1"
    assert spellings["sdxl"].partners("text_encoder", f"{SELF_ATTN}.out_proj") == ()
    assert spellings["sd2"].partners("text_encoder", mlp) == ()


MODELS = {
    "sd15": "sd_v1 False stable-diffusion-v1/lora 512x512 epsilon",
    "sd21-base": "sd_v2 True stable-diffusion-v2-512/lora 512x512 epsilon",
    "sd21": "sd_v2_v True stable-diffusion-v2-768-v/lora 768x768 v",
    "sdxl": "sdxl_base_v1-0 False stable-diffusion-xl-v1-base/lora 1024x1024 epsilon",
    "sdxl-turbo": "sdxl_base_v1-0 False stable-diffusion-xl-turbo-v1/lora 512x512 epsilon",
}


@pytest.mark.parametrize("model", MODELS)
def test_metadata_names_the_model(model):
    """
    A1111 reads `ss_v2` and the `sdxl_` of the version; Forge and ComfyUI read modelspec.
    """
    metadata = lora_metadata(registry.get(model), rank=4, name="out", title="No Monet", base="m")

    keys = ("ss_base_model_version", "ss_v2", "modelspec.architecture", "modelspec.resolution")
    values = [metadata[key] for key in (*keys, "modelspec.prediction_type")]
    assert values == MODELS[model].split()
    assert metadata["ss_network_module"] == "networks.lora"
    assert metadata["ss_network_dim"] == metadata["ss_network_alpha"] == "4"
    assert (metadata["ss_output_name"], metadata["modelspec.title"]) == ("out", "No Monet")
    assert "lora_adapter_metadata" not in metadata  # diffusers refuses it beside alphas
    # no program that reads such metadata runs IF
    assert not lora_metadata(registry.get("deepfloyd"), rank=4, name="out", title="t", base="m")


def test_hashes_are_those_of_kohya(tmp_path):
    """
    The hash covers the tensors alone, and the legacy hash covers 64 KiB after the first MiB.
    """
    changes = [LowRank("unet", f"mid_block.attentions.0.{ATTN2}", random(900, 300), random(300, 9))]
    tensors = lora_tensors(registry.family("sd1").lora, changes)
    own = {"ss_network_dim": "300"}
    path = write(tmp_path / "a.safetensors", tensors, {**own, "loco.version": "1"})

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    bare = io.BytesIO(save(tensors, own))  # as kohya hashes: the file with no key but its own
    n_header = int.from_bytes(bare.read(8), "little")
    bare.seek(8 + n_header)
    sha256 = hashlib.sha256(bare.read()).hexdigest()
    bare.seek(1 << 20)
    legacy = hashlib.sha256(bare.read(64 << 10)).hexdigest()[:8]
    assert metadata["sshs_model_hash"] == sha256
    assert metadata["modelspec.hash_sha256"] == f"0x{sha256}"
    assert metadata["sshs_legacy_hash"] == legacy
    assert metadata["loco.version"] == "1"
    # A1111 looks for the metadata at the beginning of the header
    assert path.read_bytes()[8:].startswith(b'{"__metadata__":{"ss_network_dim":"300"')
    assert read_header(write(tmp_path / "b.safetensors", tensors)).metadata == {}


def test_refuses_a_lora_that_does_not_fit(tmp_path, golden):
    """
    An unknown module, a module of SDXL, another shape and a missing factor are refused.
    """
    base = open_checkpoint(write_folder(tmp_path / "base", small_model("sd15"), torch.float16))
    known = f"unet.down_blocks.0.attentions.0.{ATTN2}"
    path = tmp_path / "lora.safetensors"
    for name, d_out in (
        ("lora_unet_conv_out_of_place", 8),
        ("lora_unet_input_blocks_1_1_proj_in", 8),
        (known, 9),
        (known, None),
    ):
        tensors = {f"{name}.lora_down.weight": random(2, 64)}
        if d_out:
            tensors[f"{name}.lora_up.weight"] = random(d_out, 2)
        save_file(tensors, path)

        with golden.raises(CheckpointError, path.name):
            open_lora(path, base)
        assert is_lora(path)
    assert not is_lora(base.files[0].source)


def test_reads_convolutions_and_alpha(tmp_path):
    """
    A foreign LoRA may change convolutions, and is scaled by alpha over rank.
    """
    model = small_model("sd15")
    base = write_folder(tmp_path / "base", model, torch.float16)
    up, down = random(8, 2, 1, 1), random(2, 4, 3, 3, seed=1)
    ends = {"lora_up.weight": up, "lora_down.weight": down, "alpha": torch.tensor(1.0)}
    tensors = {f"lora_unet_conv_in.{end}": tensor for end, tensor in ends.items()}
    save_file(tensors, tmp_path / "lora.safetensors")

    (part,) = open_lora(tmp_path / "lora.safetensors", open_checkpoint(base)).parts

    assert (part.component, part.name) == ("unet", "conv_in.weight")
    wanted = 0.5 * torch.einsum("or,rihw->oihw", up[..., 0, 0], down).double()
    torch.testing.assert_close(part.read().reshape(8, 4, 3, 3), wanted, rtol=0, atol=1e-6)
