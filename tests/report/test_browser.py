"""The pages in a browser, if one is installed."""

import html
import re
import shutil
import subprocess

import pytest

from loco_cli.localization import WindowScore
from loco_cli.manifest import EditRecord, Strength, StrengthTrial, TensorEdit
from loco_cli.report.html import (
    render_edit_report,
    render_evaluation_report,
    render_localization_report,
)
from tests.report.manifests import manifest_of

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")
LONG = "an_unbroken_name_" * 9
MEASURE = """
<iframe id="page" style="border:0;width:{width}px;height:900px" srcdoc="{page}"></iframe>
<script>
addEventListener("load", () => {{
  const page = document.getElementById("page").contentDocument, root = page.documentElement;
  const pictures = [...page.images];
  const places = [...page.querySelectorAll(".plot")].map(
    plot => [...plot.querySelectorAll(".number")].map(one => one.getBoundingClientRect()));
  const touch = (a, b) => a !== b && a.width * b.width > 0 && a.top === b.top
    && a.left < b.right && b.left < a.right;
  const crowded = places.map(own => own.filter(a => own.some(b => touch(a, b))).length);
  document.body.textContent = [
    "width", root.scrollWidth, "shown", pictures.filter(p => p.naturalWidth > 0).length,
    "of", pictures.length, "scripts", page.scripts.length,
    "fetched", page.defaultView.performance.getEntriesByType("resource")
      .filter(r => !r.name.startsWith("data:")).length,
    "crowded", crowded.reduce((all, one) => all + one, 0), ";"].join(" ");
}});
</script>
"""


@pytest.fixture(params=["localization", "edit", "evaluation"])
def page(request, swept, judged):
    """Each of the three pages, with long unbroken names."""
    sweep = swept(subject=LONG, source=LONG)
    if request.param == "localization":
        ends = [(i, i + width) for width in (1, 2) for i in range(50, 58)]
        tried = [
            WindowScore.of(tuple(range(*one)), [0.2, 0.3], original=0.3, target=0.1) for one in ends
        ]
        return render_localization_report(
            [sweep, swept(), swept(scores=tried)], command=("loco", LONG)
        )
    if request.param == "evaluation":
        return render_evaluation_report(*judged(LONG), title=LONG, recipe=LONG, command=(LONG,))
    record = {"kind": "style", "subject": LONG, "to": LONG, "method": "locoedit", "ridge": 1e-9}
    edit = EditRecord(**record, layer_range=(0, 4), tokens="all", n_keys=24)
    fields = {"recipe": LONG, "command": (LONG,), "preserve": (LONG, "klimt")}
    return render_edit_report(
        manifest_of((edit,), model=LONG, strength=measured(), **fields),
        title=LONG,
        localizations=[sweep],
        tensors=[TensorEdit(LONG, LONG, "F16", 24, 0.123, 0.0012)],
        module_paths=[LONG] * 4,
    )


def measured():
    """Return a strength with the largest number of trials, in separate layers."""
    layers = (tuple(range(0, 70, 2)),)
    shares = {"forgotten": 0.875, "became": 0.875, "kept": 0.875, "n": 16}
    tried = (StrengthTrial(layers=layers, ridge="0.03x", **shares),) * 15
    return Strength(
        target=0.95, seeds=(100, 101), steps=10, prompts=(LONG,), tried=tried, chosen=14
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [320, 1200])
def test_a_page_fits_the_screen_and_shows_all(page, width, tmp_path):
    """
    On phones and laptops, nothing overflows, every picture loads and nothing is requested.
    """
    file = tmp_path / "measure.html"
    file.write_text(MEASURE.format(page=html.escape(page), width=width))

    shown = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
    ).stdout

    n = page.count("<img")
    measured = re.search(r"width .* ;", shown)
    assert measured
    assert measured[0] == f"width {width} shown {n} of {n} scripts 0 fetched 0 crowded 0 ;"
