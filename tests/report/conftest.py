"""Made-up pictures, localizations and evaluations for the pages."""

import io
from collections.abc import Callable

import pytest
from PIL import Image

from loco_cli.evaluation import BeforeAfter, Evaluation, ForgetImages, JudgedImage, KeepImages
from loco_cli.localization import Localization, LocalizationRun, SwapPicture, WindowScore
from loco_cli.manifest import TensorEdit
from loco_cli.report.html import (
    render_edit_report,
    render_evaluation_report,
    render_localization_report,
)
from tests.report.manifests import edit_record, manifest_of, strength_of

N_LAYERS = 4
SEEDS = (1000, 1001)


@pytest.fixture
def png() -> Callable[..., bytes]:
    """Make a PNG of a single colour, a new one for each call."""
    made = iter(range(256 * 256))

    def make(side: int = 4) -> bytes:
        number = next(made)
        buffer = io.BytesIO()
        Image.new("RGB", (side, side), (number % 256, number // 256, 90)).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture
def swept(png: Callable[..., bytes]) -> Callable[..., LocalizationRun]:
    """Make a localization over four layers, in which layers 1 and 2 hold the concept."""

    def make(
        subject: str = "monet", source: str = "a cat by monet", **changes: object
    ) -> LocalizationRun:
        windows = [(0, 1), (1, 2), (2, 3)]
        values = [[0.29, 0.31], [0.1, 0.13], [0.2, 0.24]]
        scores = [
            WindowScore.of(layers, each, original=0.3, target=0.1)
            for layers, each in zip(windows, values, strict=True)
        ]
        found = {
            "model": {"name": "tiny", "family": "sd1"},
            "concept": {"kind": "style", "subject": subject, "to": "painting"},
            "method": "locogen",
            "search": "exhaustive",
            "width": 2,
            "layer_range": (1, 3),
            "effect": scores[1].effect,
            "better": "lower",
            "layers": [{"layer": layer, "module_path": f"block.{layer}"} for layer in (1, 2)],
            "scores": scores,
            "prompts": [{"source": source, "target": "a painting"}],
            "seeds": (0, 1),
        }
        found |= {"original_score": 0.3, "target_score": 0.1, "scorer": "tiny"}
        found |= {"steps": 20, "guidance": 4.0, "unet_evaluations": 400, "seconds": 12.3}
        candidates = [(), tuple(range(N_LAYERS)), *windows]
        pictures = tuple(
            SwapPicture(source, "a painting", 0, layers, 0.3 - 0.01 * i, png())
            for i, layers in enumerate(candidates)
        )
        paths = tuple(f"block.{layer}" for layer in range(N_LAYERS))
        return LocalizationRun(Localization(**{**found, **changes}), pictures, paths)

    return make


@pytest.fixture
def judged(png: Callable[..., bytes]) -> Callable[..., tuple[Evaluation, list[BeforeAfter]]]:
    """Make an evaluation of two prompts to forget and two to keep, one without labels."""

    def make(prompt: str = "a cat by monet") -> tuple[Evaluation, list[BeforeAfter]]:
        gone = JudgedImage(0.3, 0.1, True, False, True)
        there = JudgedImage(0.3, 0.3, True, True, False)
        kept, lost = JudgedImage(0.3, 0.3, True, True), JudgedImage(0.3, 0.1, True, False)
        plain = JudgedImage(0.2, 0.2)
        asked = {
            ("forget", prompt): (gone, there),
            ("forget", "a dog by monet"): (gone, JudgedImage(0.2, 0.1, False, False, True)),
            ("keep", "a cat by klimt"): (kept, lost),
            ("keep", "a harbour"): (plain, plain),
        }
        evaluation = Evaluation.of(
            [ForgetImages(0, "style", p, i) for (g, p), i in asked.items() if g == "forget"],
            [KeepImages("klimt", p, i) for (g, p), i in asked.items() if g == "keep"],
            SEEDS,
        )
        pairs = [
            BeforeAfter(
                *(group, prompt, seed, png(), png(), image.before, image.after),
                *(image.recognised_before, image.recognised_after, image.became),
            )
            for (group, prompt), images in asked.items()
            for seed, image in zip(SEEDS, images, strict=True)
        ]
        return evaluation, pairs

    return make


@pytest.fixture(params=["localization", "edit", "evaluation"])
def page_of(
    request: pytest.FixtureRequest,
    swept: Callable[..., LocalizationRun],
    judged: Callable[..., tuple[Evaluation, list[BeforeAfter]]],
) -> Callable[[str], str]:
    """Render each of the three pages with as many bars as fit, and one text for every name."""

    def render(name: str) -> str:
        sweep = swept(subject=name, source=name)
        texts = {"title": name, "recipe": name, "command": (name,)}
        if request.param == "evaluation":
            return render_evaluation_report(*judged(name), **texts)
        if request.param == "localization":
            ranges = [range(i, i + width) for width in (1, 2) for i in range(50, 58)]
            tried = [WindowScore.of(r, [0.2, 0.3], original=0.3, target=0.1) for r in ranges]
            return render_localization_report([sweep, swept(scores=tried)], command=(name,))
        trials = [(0.875, 0.875, 0.875)] * 15
        strength = strength_of(*trials, layers=tuple(range(0, 70, 2)), prompts=(name,), chosen=14)
        edit = edit_record(subject=name, to=name, tokens=name, layer_range=(0, 4), ridge=1e-9)
        fields = {"model": name, "preserve": (name, "klimt"), "strength": strength}
        return render_edit_report(
            manifest_of([edit], recipe=texts.pop("recipe"), command=texts.pop("command"), **fields),
            localizations=[sweep],
            tensors=[TensorEdit(name, name, "F16", 24, 0.123, 0.0012)],
            module_paths=[name] * N_LAYERS,
            **texts,
        )

    return render
