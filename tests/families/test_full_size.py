"""Models at their published size, as files without weights."""

import json

import pytest

from loco_cli.checkpoint.header import TensorInfo, render_header
from loco_cli.families import registry
from loco_cli.models.locate import locate
from tests.families.original import original_tensors
from tests.families.small import full_model

N_BYTES = {"sd15": 2_132_473_088, "sd21": 2_610_000_000, "sdxl": 6_938_000_000}
STYLE = ["edit", "van gogh style", "--set", "edit.layer_range=published", "--dry-run"]


def hollow(name, root):
    """Write the header of a float16 file in the original layout, and no weights."""
    infos, begin = [], 0
    for tensor, value in original_tensors(full_model(name)).items():
        end = begin + 2 * value.numel()
        infos.append(TensorInfo(tensor, "F16", tuple(value.shape), begin, end))
        begin = end
    header = render_header(infos, {})
    path = root / f"{name}.safetensors"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + begin)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("hollow")
    return {name: hollow(name, root) for name in N_BYTES}


@pytest.mark.parametrize("name", N_BYTES)
def test_a_file_of_the_published_size_is_that_model(files, name):
    """Names and shapes of the original layout identify the known model."""
    spec = registry.get(name)

    found = locate(str(files[name]))

    assert found.path.stat().st_size == pytest.approx(N_BYTES[name], rel=0.01)
    assert (found.spec.family, found.spec.d_text) == (spec.family, spec.d_text)
    assert found.spec.layers == spec.layers
    assert found.config == registry.config_folder(spec)
    assert found.has_encoders


@pytest.mark.parametrize("name", N_BYTES)
def test_a_dry_run_reads_only_the_header(files, name, loco):
    """A dry run lists the tensors of the published layers without reading any weights."""
    done = loco(*STYLE, "--model", files[name], "--json")

    assert done.exit_code == 0, done.stderr
    plan = json.loads(done.stdout)
    layers = registry.get(name).layers[slice(*registry.get(name).published_ranges["style"])]
    assert plan["tensors"] == [tensor for layer in layers for tensor in layer.tensor_names()]


def test_another_model_does_not_pass_for_the_one_that_is_named(files, home, loco):
    """An SD 2 file in place of `sd15` is refused, and the error names both."""
    (home / "config" / "loco").mkdir(parents=True)
    (home / "config" / "loco" / "models.yaml").write_text(f"sd15: {files['sd21']}\n")

    done = loco(*STYLE, "--model", "sd15")

    assert done.exit_code == 1
    message, hint = done.stderr.rstrip("\n").split("\n\n")
    assert "sd21.safetensors` is not `sd15`: its family is `sd2`" in message
    assert "it looks like Stable Diffusion 2.1" in hint
