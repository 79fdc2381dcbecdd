"""A diffusers folder compared with a single file of the same model."""

import pytest
import torch

from loco_cli.commands import diff as compare
from tests.families.layouts import write_folder
from tests.families.original import original_tensors, write_file
from tests.families.small import small_model

# tensors of the original layout alone: a buffer, OpenCLIP's scale, in SD 2 a projection and a layer
N_ONLY_ORIGINAL = {"sd15": 1, "sd21": 1 + 1 + 1 + 16, "sdxl": 1 + 1}
FUSED = "conditioner.embedders.1.model.transformer.resblocks.1.attn.in_proj_weight"


@pytest.mark.parametrize("name", ["sd15", "sd21", "sdxl"])
def test_layouts_of_one_model_are_the_same(name, tmp_path):
    """Every tensor of the folder has an equal partner in the file, fused or transposed or not."""
    model = small_model(name)
    folder = write_folder(tmp_path / "folder", model, torch.float16)
    file = write_file(tmp_path / "one.safetensors", original_tensors(model), torch.float16)

    diff = compare.run(folder, file)

    n_tensors = sum(map(len, model.tensors.values()))
    found = {key: n for key, n in diff.counts.model_dump().items() if n}
    assert found == {"identical": n_tensors, "only_in_b": N_ONLY_ORIGINAL[name]}
    assert not {"unet", "vae"} & {tensor.component for tensor in diff.tensors}


def test_a_diff_names_the_part_of_a_fused_tensor(tmp_path):
    """A diff names the changed projection of a folder, or the fused tensor of a file."""
    model = small_model("sdxl")
    folder = write_folder(tmp_path / "folder", model, torch.float16)
    tensors = original_tensors(model)
    base = write_file(tmp_path / "base.safetensors", tensors, torch.float16)
    width = tensors[FUSED].shape[1]
    tensors[FUSED] = tensors[FUSED] + torch.arange(3).repeat_interleave(width)[:, None].ge(2)
    edited = write_file(tmp_path / "edited.safetensors", tensors, torch.float16)

    across, within = (compare.run(a, edited) for a in (folder, base))

    (projection,) = (tensor for tensor in across.tensors if tensor.status == "changed")
    (whole,) = within.tensors
    layer = "text_model.encoder.layers.1.self_attn"
    assert projection.canonical_name == f"{layer}.v_proj.weight"
    assert (projection.shape, projection.rank, projection.share_changed) == ((width, width), 1, 1.0)
    assert (whole.name, whole.canonical_name) == (FUSED, f"{layer}.{{q,k,v}}_proj.weight")
    assert whole.share_changed == pytest.approx(1 / 3)
    assert projection.component == whole.component == "text_encoder_2"
