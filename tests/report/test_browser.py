"""The pages in a browser, if one is installed."""

import html
import re
import shutil
import subprocess

import pytest

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


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
@pytest.mark.parametrize("width", [320, 1200])
def test_a_page_fits_the_screen_and_shows_all(page_of, width, tmp_path):
    """On phones and laptops, nothing overflows, every picture loads and nothing is requested."""
    file = tmp_path / "measure.html"
    page = page_of(LONG)
    file.write_text(MEASURE.format(page=html.escape(page), width=width))

    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom")
    shown = subprocess.run(
        [CHROMIUM, *flags, file.as_uri()],
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
