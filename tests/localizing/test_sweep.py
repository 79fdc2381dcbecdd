"""An exhaustive sweep of the shipped model: its runs, its scores and its cost."""

import io

import pytest
from PIL import Image

from loco_cli.commands import localize as command
from loco_cli.errors import ConceptError, RequestError
from loco_cli.interventions import Run, SwapPrompt
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.session import RunOptions
from loco_cli.recipe.load import recipe_from_text
from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.sampling.sample import sample_batch
from tests.listeners import RecordingListener
from tests.searches import find_layers, localize

SOURCES = ("a house by {subject}",)


def recipe_of(text="van gogh style", **localize):
    recipe = recipe_from_text(text, sources=SOURCES, to="painting")
    settings = {"search": "exhaustive", "width": 14, "seeds": 2, "steps": 1, **localize}
    return recipe.model_copy(update={"localize": recipe.localize.model_copy(update=settings)})


@pytest.fixture(scope="module")
def swept(bench):
    recipe = recipe_of()
    return localize(bench, recipe.edits[0], recipe.localize)


def test_every_window_has_a_score(swept):
    """The document has a score for each window, over all prompts and seeds."""
    found = swept.localization

    assert [one.layer_range for one in found.scores] == [(0, 14), (1, 15), (2, 16)]
    assert {one.n for one in found.scores} == {2}
    assert found.ranked()[0].layer_range == found.layer_range
    assert found.better == "lower"
    assert found.prompts[0].source == "a house by van gogh"
    assert found.prompts[0].target == "a painting"


def test_a_score_is_the_mean_of_its_pictures(swept, bench):
    """A window's score is the mean CLIP score of its pictures, drawn one by one."""
    scores = []
    for seed in (0, 1):
        run = Run("a house by van gogh", seed, SwapPrompt(tuple(range(14)), "a painting"))
        picture = sample_batch(bench.pipeline, [run], steps=1, guidance=4.0)
        scores += bench.scorer.scores(picture, ["a house by van gogh"])

    assert swept.localization.scores[0].score == pytest.approx(sum(scores) / 2, abs=1e-4)


def test_the_plan_is_exact(swept, tiny):
    """The plan's cost is the cost of the sweep: 5 candidates, 2 seeds, 1 guided step."""
    recipe = recipe_of()

    priced = command.plan(recipe).document().localize

    assert priced.n_pictures == 5 * 2
    assert swept.localization.unet_evaluations == priced.unet_evaluations == 5 * 2 * 1 * 2


def test_pictures_are_from_the_first_seed(swept):
    """The original, the full swap and each window are kept for seed 0, as PNG."""
    layers = [picture.layers for picture in swept.pictures]

    assert layers[:2] == [(), tuple(range(16))]
    assert len(layers) == 5
    assert Image.open(io.BytesIO(swept.pictures[0].png)).size == (64, 64)
    assert len(swept.module_paths) == 16


def test_a_fact_maximizes_its_score(bench):
    """A fact is scored against its target prompt, and higher is better."""
    recipe = recipe_from_text("the british monarch fact", sources=SOURCES, to="king charles")
    settings = recipe.localize.model_copy(update={"width": 16, "seeds": 1, "steps": 1})

    found = localize(bench, recipe.edits[0], settings).localization

    assert found.better == "higher"
    assert found.layer_range == (0, 16)
    assert found.effect == pytest.approx(1.0)
    assert found.prompts[0].target == "a house by king charles"


def test_auto_stops_at_the_first_width_that_passes(bench, monkeypatch):
    """Widths are tried from narrow to wide, and no run is drawn twice."""
    from loco_cli.localizing import runs

    # these widths have five windows, where 1 to 4 have 58
    monkeypatch.setattr(runs, "AUTO_WIDTHS", (14, 15))
    settings = {"width": "auto", "seeds": 1, "steps": 5}

    little = recipe_of(**settings, effect=1e-9)
    narrow = localize(bench, little.edits[0], little.localize).localization
    # no window has this effect
    most = little.localize.model_copy(update={"effect": 100.0})
    wide = localize(bench, little.edits[0], most).localization

    assert {len(one.layer_set) for one in narrow.scores} == {14}
    assert narrow.unet_evaluations == (2 + 3) * 5 * 2
    assert {len(one.layer_set) for one in wide.scores} == {14, 15}
    assert wide.unet_evaluations == (2 + 3 + 2) * 5 * 2


def test_progress_ends_at_its_total(tiny, pipeline, bench):
    """A sweep reports progress from zero to its total."""
    listener = RecordingListener()
    loud = SearchContext(tiny, pipeline, bench.scorer, 4, listener.events)
    recipe = recipe_of(seeds=1)

    localize(loud, recipe.edits[0], recipe.localize)

    assert (listener.progressed[0].done, listener.progressed[0].total) == (0, 5)
    assert (listener.progressed[-1].done, listener.progressed[-1].total) == (5, 5)
    assert {one.stage for one in listener.progressed} == {"localizing van gogh"}


def test_a_truncated_subject_is_refused_before_the_model_loads(golden):
    """The tokenizer alone finds a subject beyond the prompt's limit."""
    listener = RecordingListener()
    recipe = recipe_from_text("very " * 90 + "van gogh style")

    with golden.raises(ConceptError, "very very"):
        command.run(command.plan(recipe), RunOptions(device="cpu"), listener.events)

    assert listener.progressed == []


def test_wrong_settings_are_refused_before_the_model_loads(tiny, golden):
    """Settings that do not fit the model or the method raise before anything loads."""
    listener = RecordingListener()
    wrong = {
        "causal tracing": {"method": "causal-trace"},
        "--noise": {"noise": 3.0},
        "neurons": {"method": "neurons"},
        "`tiny`": {"pooled": True},
        "17": {"width": 17},
        "1001": {"steps": 1001},
    }

    for name, settings in wrong.items():
        with golden.raises(RequestError, name):
            find_layers(tiny, recipe_of(**settings), RunOptions(device="cpu"), listener.events)

    assert listener.progressed == []


def test_the_document_names_the_scorer(swept, bench):
    """The scorer has the user's name for it, not that of a cache folder."""
    assert isinstance(bench.scorer, ClipScorer)
    assert swept.localization.scorer == "tiny"
