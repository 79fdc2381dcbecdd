"""The pages of localizations, edits and evaluations."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

from PIL import Image

from loco_cli.localization import LocalizationRun, SwapPicture
from loco_cli.manifest import TensorEdit
from loco_cli.report.html import (
    MAX_PICTURE_SIDE,
    render_edit_report,
    render_evaluation_report,
    render_localization_report,
)
from tests.report.manifests import edit_record, manifest_of

HOSTILE = """"><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7 * 7 }}'&amp;"""
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The tags, attributes and text of a page; `is_balanced` if every tag is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self.open, self.is_balanced = [], "", [], True
        self.feed(html)
        self.is_balanced &= not self.open

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        self.is_balanced &= bool(self.open) and self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def pictures(self):
        sources = [attributes["src"] for tag, attributes in self.tags if tag == "img"]
        assert all(source.startswith("data:image/png;base64,") for source in sources)
        return {base64.b64decode(source.partition(",")[2]) for source in sources}


def edit_page(localizations=(), edits=(), tensors=None, module_paths=None, **changes):
    tensor = TensorEdit("unet/model.safetensors", "mid.to_k.weight", "F16", 4, 0.0123, 0.0004)
    return render_edit_report(
        manifest_of(edits or (edit_record(layer_range=(1, 3)),), **changes),
        title="Remove Monet",
        localizations=localizations,
        tensors=[tensor] if tensors is None else tensors,
        module_paths=[f"block.{i}" for i in range(4)] if module_paths is None else module_paths,
    )


def evaluation_page(evaluation, pairs, manifest=None):
    words = {"title": "t", "recipe": "r", "command": ("loco",)}
    return render_evaluation_report(evaluation, pairs, manifest=manifest, **words)


def test_foreign_text_stays_text(page_of):
    """
    Markup in a name adds no tag and no handler, appears literally, and leaves every SVG valid XML.
    """
    html = page_of(HOSTILE)
    page = Page(html)

    assert "script" not in {tag for tag, _ in page.tags}
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert HOSTILE in page.text
    assert page.is_balanced
    for drawing in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_a_page_makes_no_request(page_of):
    """A page contains no address and no link, and its policy forbids every request."""
    html = page_of(HOSTILE)
    page = Page(html)
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv"))

    assert not re.search(r"http(?!-equiv)|url\(|@import", re.sub(r"base64,[^\"]*", "", html))
    assert not {"link", "script", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    assert policy.startswith("default-src 'none';")


def test_a_localization_shows_every_picture(swept):
    """The page contains every picture, and marks only the chosen windows."""
    sweeps = [swept("monet"), swept("klimt")]

    html = render_localization_report(sweeps)

    assert Page(html).pictures() == {p.png for sweep in sweeps for p in sweep.pictures}
    assert html.count('<figure class="chosen"') == 2
    assert "Where tiny keeps monet and klimt" in html


def test_a_localization_names_its_layers(swept):
    """
    The page has the chosen layers in words and as a range, with their module paths and effect.
    """
    text = Page(render_localization_report([swept()])).text

    for words in ("Layers 1 and 2", "layer_range: [1, 3]", "block.1", "92.5%"):
        assert words in text


def test_a_weak_candidate_gives_a_warning(swept):
    """The page warns if the best candidate has less than half of the effect, or an unknown one."""
    for effect, is_weak in {0.5: False, 0.49: True, None: True}.items():
        page = render_localization_report([swept(effect=effect)])
        assert ("No single candidate holds" in page) == is_weak


def test_a_page_holds_the_hashes_of_the_manifest(judged):
    """With a manifest, the page has the SHA-256 of the manifest, the recipe and each base file."""
    manifest = manifest_of((edit_record(layer_range=(1, 3)),))

    for page in (evaluation_page(*judged(), manifest), edit_page()):
        for words in (manifest.digest(), "5a" * 32, "7e" * 32, "a.safetensors"):
            assert words in page
    assert "SHA-256" not in evaluation_page(*judged())


def test_an_evaluation_shows_every_picture(judged):
    """Each prompt has all its pictures, and the failures are marked."""
    evaluation, pairs = judged()

    html = evaluation_page(evaluation, pairs)

    assert Page(html).pictures() == {png for pair in pairs for png in (pair.before, pair.after)}
    assert html.count('class="pair bad"') == 2  # one still there, one lost
    assert html.count('class="pair good"') == 3
    assert "not counted" in html  # the base got it wrong


def test_an_evaluation_shows_its_figures(judged):
    """Figures are percentages; an unknown one is a dash with a reason."""
    evaluation, pairs = judged()
    unknown = evaluation_page(evaluation.model_copy(update={"became": None}), pairs)
    known = evaluation_page(evaluation, pairs)

    for page, figure, is_unknown in ((known, "66.7%", False), (unknown, "–", True)):
        assert f"<b>{figure}</b>" in page
        assert ("is unknown" in page) == is_unknown


def test_two_rows_of_one_prompt_share_its_pictures_in_order(judged):
    """
    Two edits with the same prompt get one picture per seed each, and no picture appears twice.
    """
    evaluation, pairs = judged()
    row = evaluation.forget[0]
    rows = (row, row.model_copy(update={"edit": 1}))
    asked = pairs[:2] + [replace(pair, prompt=row.prompt) for pair in pairs[2:4]]

    html = evaluation_page(evaluation.model_copy(update={"forget": rows, "keep": ()}), asked)

    assert len(Page(html).pictures()) == html.count("<img") == 8
    assert "Edit 2" in html


def test_an_edit_has_the_module_paths_of_its_layers():
    """Each layer of a range or a set has its module path; an edit of the text encoder has none."""
    layer_set = edit_record(layer_range=None, layers=(0, 3))
    encoder = edit_record(layer_range=None, ridge=None, tokens=None)

    page = edit_page((), (edit_record(layer_range=(1, 3)), layer_set, encoder))

    for words in (*(f"block.{layer}" for layer in range(4)), "layers: [0, 3]", "text encoder"):
        assert words in page


def test_an_edit_lists_its_tensors_by_file():
    """Every changed tensor appears once, below its file, in any order of the tensors."""
    names, files = [f"mid.{i}.weight" for i in range(3)], ("a.bin", "b.bin")
    tensors = [TensorEdit(f, name, "F16", 4, 0.0123, 0.0004) for name in names for f in files]

    text = Page(edit_page(tensors=tensors)).text

    assert all(text.count(name) == 2 for name in names)
    assert text.count("a.bin") == text.count("b.bin") == 1
    assert text.count("1.2%") == 6


def test_an_edit_page_may_have_empty_sections(swept):
    """An edit may lack localizations, their pictures, preserved concepts and changes."""
    sweep, unchanged = swept(), TensorEdit("f", "t", "F16", 0, 0.0, 0.0)

    page = edit_page(preserve=(), tensors=[unchanged], module_paths=())

    assert "No prompts were preserved" in page
    assert "<h2>Localization</h2>" not in page
    assert not Page(edit_page([LocalizationRun(sweep.localization)])).pictures()
    assert len(Page(edit_page([sweep])).pictures()) == len(sweep.pictures)


def test_large_pictures_are_scaled_down(swept, png):
    """A large picture is stored at the size that the page needs."""
    large = SwapPicture("p", "t", 0, (), 0.3, png(512))

    html = render_localization_report([replace(swept(), pictures=(large,))])

    (shown,) = Page(html).pictures()
    assert Image.open(io.BytesIO(shown)).size == (MAX_PICTURE_SIDE, MAX_PICTURE_SIDE)


def test_undecodable_file_names_are_escaped():
    """A page escapes characters that UTF-8 cannot encode."""
    page = edit_page(command=("loco", "edit", "caf\udce9.yaml"))

    assert "caf\\udce9.yaml" in page
    page.encode()
