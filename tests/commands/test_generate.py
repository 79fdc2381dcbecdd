"""`loco generate`: images of prompts and seeds."""

import io

import pytest
from PIL import Image

from loco_cli.commands import generate
from loco_cli.commands.generate import GenerateOptions
from loco_cli.interventions import Run
from loco_cli.models.session import RunOptions
from loco_cli.sampling.sample import sample_batch, to_png

CPU = RunOptions(device="cpu", batch_size=1)


def request_of(*prompts, seeds=(0,), steps=1, **where):
    return GenerateOptions(prompts, seeds, "tiny", steps, **where)


@pytest.fixture(scope="module")
def made():
    return generate.run(generate.plan(request_of("a cat", "a dog", seeds=(0, 1))), CPU)


def test_order_of_images(made):
    """
    All seeds of the first prompt come first, then those of the next.
    """
    assert [(one.prompt, one.seed) for one in made.pictures] == [
        ("a cat", 0),
        ("a cat", 1),
        ("a dog", 0),
        ("a dog", 1),
    ]
    assert made.path is None


def test_image_of_the_pipeline(made, pipeline, tiny):
    """
    The PNG is the image of the pipeline at the default guidance of the model.
    """
    (picture,) = sample_batch(pipeline, [Run("a cat", 1)], steps=1, guidance=tiny.spec.guidance)

    assert made.pictures[1].png == to_png(picture)


def test_single_image(tmp_path):
    """
    A single image is written in its own size.
    """
    made = generate.run(generate.plan(request_of("a cat", output=tmp_path / "cat.png")), CPU)

    content = (tmp_path / "cat.png").read_bytes()
    assert content == made.pictures[0].png
    assert Image.open(io.BytesIO(content)).size == (64, 64)


def test_sheet(tmp_path):
    """
    Several images are written as a sheet with one row per prompt, even for equal prompts.
    """
    generate.run(
        generate.plan(request_of("a cat", "a cat", seeds=(0, 1), output=tmp_path / "cats.png")), CPU
    )
    generate.run(generate.plan(request_of("a cat", seeds=(0, 1), output=tmp_path / "row.png")), CPU)

    two, one = (
        Image.open(io.BytesIO((tmp_path / name).read_bytes())) for name in ("cats.png", "row.png")
    )
    assert two.height > one.height
    assert two.width == one.width


def test_document_of_images(made, here):
    """
    `loco.generated/1` has prompts, seeds and a relative path.
    """
    written = generate.GenerateResult("tiny", made.pictures[:1], here / "cat.png")

    assert written.to_json() == {
        "schema": "loco.generated/1",
        "model": "tiny",
        "pictures": [{"prompt": "a cat", "seed": 0}],
        "path": "cat.png",
    }
    assert made.to_json()["path"] is None


def test_force(tmp_path):
    """
    With `force`, an existing file is replaced.
    """
    (tmp_path / "cat.png").write_bytes(b"mine")

    generate.run(generate.plan(request_of("a cat", output=tmp_path / "cat.png", force=True)), CPU)

    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")
