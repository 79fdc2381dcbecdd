"""Pictures of prompts and seeds."""

import io

import pytest
from PIL import Image

from loco_cli.commands import generate
from loco_cli.commands.generate import GenerateOptions
from loco_cli.errors import OutputExists
from loco_cli.interventions import Run
from loco_cli.models.session import RunOptions
from loco_cli.sampling.sample import sample_batch, to_png
from tests.listeners import RecordingListener

CPU = RunOptions(device="cpu", batch_size=1)


def request_of(*prompts, seeds=(0,), steps=1, **where):
    return GenerateOptions(prompts, seeds, "tiny", steps, **where)


@pytest.fixture(scope="module")
def made():
    return generate.run(generate.plan(request_of("a cat", "a dog", seeds=(0, 1))), CPU)


def test_prompts_go_before_seeds(made):
    """
    There is a picture for every prompt and seed, those of a prompt together.
    """
    assert [(one.prompt, one.seed) for one in made.pictures] == [
        ("a cat", 0),
        ("a cat", 1),
        ("a dog", 0),
        ("a dog", 1),
    ]
    assert made.path is None


def test_a_picture_is_the_pipelines(made, pipeline, tiny):
    """
    The PNG is what the model draws with its own guidance.
    """
    (picture,) = sample_batch(pipeline, [Run("a cat", 1)], steps=1, guidance=tiny.spec.guidance)

    assert made.pictures[1].png == to_png(picture)


def test_one_picture_is_written_as_it_is(tmp_path):
    """
    A single picture is a PNG of the model's own size.
    """
    made = generate.run(generate.plan(request_of("a cat", output=tmp_path / "cat.png")), CPU)

    content = (tmp_path / "cat.png").read_bytes()
    assert content == made.pictures[0].png
    assert Image.open(io.BytesIO(content)).size == (64, 64)


def test_several_pictures_are_a_sheet(tmp_path):
    """
    More than one picture is a sheet, with a row for each prompt, a prompt given twice too.
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


def test_the_document_names_pictures_and_file(made, tmp_path, monkeypatch):
    """
    `loco.generated/1` holds prompts, seeds and a relative path.
    """
    monkeypatch.chdir(tmp_path)
    written = generate.GenerateResult("tiny", made.pictures[:1], tmp_path / "cat.png")

    assert written.to_json() == {
        "schema": "loco.generated/1",
        "model": "tiny",
        "pictures": [{"prompt": "a cat", "seed": 0}],
        "path": "cat.png",
    }
    assert made.to_json()["path"] is None


def test_a_file_that_exists_is_kept(tmp_path):
    """
    Without `force` nothing is replaced, and no stage begins.
    """
    heard = RecordingListener()
    (tmp_path / "cat.png").write_bytes(b"mine")

    with pytest.raises(OutputExists, match=r"cat.png` exists"):
        generate.run(
            generate.plan(request_of("a cat", output=tmp_path / "cat.png")), CPU, heard.events
        )

    assert heard.progressed == []
    assert (tmp_path / "cat.png").read_bytes() == b"mine"


def test_a_file_may_be_replaced(tmp_path):
    """
    With `force` the picture takes its place.
    """
    (tmp_path / "cat.png").write_bytes(b"mine")

    generate.run(generate.plan(request_of("a cat", output=tmp_path / "cat.png", force=True)), CPU)

    assert (tmp_path / "cat.png").read_bytes().startswith(b"\x89PNG")
