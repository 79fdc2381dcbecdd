"""The heat map of a trace, with a cell for every state."""

from loco_cli.localization import ConceptName, ModelName
from loco_cli.report.trace import _grids_of, _state_words, render_trace_report
from loco_cli.trace import Trace, TraceRun, TraceScore


def score(kind, index, token, effect, component="text_encoder"):
    place = {"component": component, "token": token, "kind": kind, "index": index}
    spread = dict.fromkeys(("std", "stderr", "indirect_effect_stderr"), 0.0)
    figures = {"score": 0.2 + effect, "indirect_effect": effect, "n": 1, **spread}
    return TraceScore(module_path=f"<{kind}.{index}>", **place, **figures)


def trace_of(component, *scores, clean=0.7):
    runs = {"prompts": ("a house by monet",), "seeds": (0,), "steps": 1, "guidance": 1.0}
    figures = {"clean_score": clean, "clean_stderr": 0.0}
    figures |= {"corrupted_score": 0.2, "corrupted_stderr": 0.0}
    cost = {"scorer": "tiny", "unet_evaluations": 0, "seconds": 0.0}
    return Trace(
        model=ModelName(name="tiny", family="sd1"),
        concept=ConceptName(kind="style", subject="<b>monet", to="painting"),
        component=component,
        noise=3.0,
        scores=scores,
        **{**runs, **figures, **cost},
    )


def test_an_encoder_has_a_grid_for_each_kind():
    """
    Blocks are rows and tokens columns; a cell has its share in percent, and the best is marked.
    """
    trace = trace_of(
        "text-encoder",
        score("self-attention", 0, "last subject", 0.5),
        score("self-attention", 0, "end", 0.0),
        score("mlp", 0, "last subject", 0.25),
        score("self-attention", 1, "end", -0.1),
    )

    attention, mlp = _grids_of(trace)

    assert attention.title == "text_encoder, self-attention"
    assert (attention.rows, attention.columns) == (("block 0", "block 1"), ("last subject", "end"))
    words = [[cell.words if cell else None for cell in row] for row in attention.cells]
    assert words == [["100", "0"], [None, "-20"]]
    (best, nothing), (_, loss) = attention.cells
    assert best.is_best
    assert not mlp.cells[0][0].is_best
    assert best.colour[0] > best.colour[2]
    assert loss.colour[0] < loss.colour[2]
    assert nothing.colour == (246, 244, 239)


def test_the_unet_has_one_grid():
    """Kinds are rows, and their numbers are columns in numerical order."""
    scores = [score("resnet", index, None, 0.1, "unet") for index in range(11)]
    (grid,) = _grids_of(trace_of("unet", *scores, score("feed-forward", 0, None, 0.2, "unet")))

    assert grid.rows == ("resnet", "feed-forward")
    assert grid.columns == tuple(map(str, range(11)))
    assert _state_words(scores[7]) == "resnet 7 of the unet"


def test_a_trace_without_any_effect_is_drawn():
    """If the noise has no effect, there are no shares, and the page says so."""
    trace = trace_of("text-encoder", score("mlp", 0, "end", 0.0), clean=0.2)

    page = render_trace_report([TraceRun(trace)])

    assert _grids_of(trace)[0].cells[0][0].words == ""
    assert "barely changes the score" in page


def test_a_trace_page_escapes_names():
    """Markup in names and module paths appears literally."""
    page = render_trace_report([TraceRun(trace_of("text-encoder", score("mlp", 0, "end", 0.4)))])

    assert "<b>monet" not in page
    assert "&lt;mlp.0&gt;" in page
