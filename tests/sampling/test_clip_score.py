"""CLIP scores of the shipped scorer."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save
from torch.nn import functional

from loco_cli.errors import ModelUnavailable
from loco_cli.families import registry
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.sampling.pipeline import silence_libraries

WEIGHTS = registry.shipped_folder(registry.get("tiny")).parent


@pytest.fixture(scope="module")
def scorer():
    with silence_libraries():
        return ClipScorer(WEIGHTS / "scorer")


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(WEIGHTS / "scorer", tmp_path / "scorer")


def test_a_score_is_the_cosine_of_clip(scorer, images):
    """The score is the cosine of the normalised and projected embeddings, without scaling."""
    tokens = scorer.tokenizer(["a cat"], return_tensors="pt")
    with torch.no_grad():
        output = scorer.model(**tokens, pixel_values=(images - 0.5) / 0.5)
    cosines = functional.cosine_similarity(output.image_embeds, output.text_embeds)

    scores = scorer.scores(images, ["a cat"] * 3)

    assert scores == pytest.approx(cosines.tolist(), abs=1e-6)


def test_each_picture_has_its_own_caption(scorer, images):
    """Each picture is scored with its own caption only."""
    captions = ["a cat", "a dog", "a cat"]

    scores = scorer.scores(images, captions)

    alone = [scorer.scores(images[i : i + 1], captions[i : i + 1])[0] for i in range(3)]
    assert scores == pytest.approx(alone, abs=1e-6)


def test_the_best_label_has_the_highest_score(scorer, images):
    """The best label of a picture is the one with the highest score."""
    labels = ["a cat", "a dog", "a house"]

    best = scorer.best_label(images, labels)

    for image, found in zip(images, best, strict=True):
        scores = scorer.scores(image.expand(3, -1, -1, -1), labels)
        assert scores[found] == pytest.approx(max(scores), abs=1e-6)


def test_a_caption_is_embedded_once(scorer, images):
    """The embedding of a caption is cached, even if the text tower truncates the caption."""
    caption = "a very nice house " * 60
    scorer.scores(images[:1], [caption])
    before = scorer.caption_embeddings[caption]

    scorer.scores(images[:1], [caption])

    assert scorer.caption_embeddings[caption] is before


def test_a_picture_is_resized(scorer):
    """A picture of another size is resized to the scorer's input size."""
    large = torch.full((1, 3, 128, 96), 0.25)

    (score,) = scorer.scores(large, ["a cat"])

    assert scorer.side == 64
    assert score == pytest.approx(scorer.scores(large[:, :, :64, :64], ["a cat"])[0], abs=1e-5)


def test_a_scorer_has_a_name():
    """The name of a scorer defaults to the name of its folder."""
    with silence_libraries():
        assert ClipScorer(WEIGHTS / "scorer", name="tiny").name == "tiny"
        assert ClipScorer(WEIGHTS / "scorer").name == "scorer"


def test_another_model_is_refused(tmp_path, tiny):
    """An empty folder and a model without two towers are refused."""
    for folder in (tmp_path, tiny.path / "text_encoder"):
        with pytest.raises(ModelUnavailable, match=r"scorer `.*` "), silence_libraries():
            ClipScorer(folder)


def test_a_damaged_scorer_is_refused(copy, golden):
    """Invalid settings, a missing tensor and a truncated file each raise one error."""
    settings, weights = copy / "preprocessor_config.json", copy / "model.safetensors"
    tensors = load_file(weights)
    del tensors["visual_projection.weight"]
    incomplete = save(tensors, {"format": "pt"})

    for path, content in ((settings, b"{"), (weights, incomplete), (weights, incomplete[:-100])):
        path.write_bytes(content)
        with golden.raises(ModelUnavailable, "scorer"), silence_libraries():
            ClipScorer(copy)


def test_settings_are_followed(copy, images, scorer):
    """Mean and standard deviation come from the image settings of the model."""
    settings = {"image_mean": [0.4] * 3, "image_std": [0.3] * 3}
    (copy / "preprocessor_config.json").write_text(json.dumps(settings))
    with silence_libraries():
        other = ClipScorer(copy)

    found = other.embed_images(images * 0.3 + 0.4)  # normalised to `images` itself

    with torch.no_grad():
        features = scorer.model.get_image_features(pixel_values=images).pooler_output
    torch.testing.assert_close(found, functional.normalize(features, dim=-1))
