"""The README and the manual: links lead somewhere, and what comes from the code is up to date."""

import json
import re
from statistics import fmean
from typing import get_args

import pytest
from pydantic import BaseModel

from loco_cli import diff, evaluation, localization, manifest, plan, trace
from loco_cli.commands.docs import list_pages
from loco_cli.records import Record
from tests.generate_docs import PARTS, updated
from tests.pages import MANUAL, PAGES, README, ROOT, blocks_of, sentences_of

N_LINES_OF_README = 140
N_WORDS_OF_A_SENTENCE = 16  # on the mean
LINK = re.compile(r"(?<!!)\[[^]]*\]\(([^)\s]+)\)")
TITLE = re.compile(r"^#+ (.*)$", re.M)
FORMATS = ROOT / "loco_cli" / "docs" / "formats.md"
DOCUMENTS = (diff, evaluation, localization, manifest, plan, trace)


def anchor(title):
    """Return the fragment by which the web reaches a heading."""
    return re.sub(r"[^\w -]", "", title.lower().replace("`", "")).replace(" ", "-")


def schemas():
    """Return the documents that are records, by their schema."""
    kinds = [one for module in DOCUMENTS for one in vars(module).values() if isinstance(one, type)]
    records = [
        kind for kind in kinds if issubclass(kind, Record) and "schema_" in kind.model_fields
    ]
    return {kind.model_fields["schema_"].default: kind for kind in records}


def records_in(annotation):
    """Return the records that a field may hold, alone or in a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [one for part in get_args(annotation) for one in records_in(part)]


def differing_keys(kind, shown, where=""):
    """
    Return the keys that no example of a record has, and those that the record does not have.

    `shown` are examples of it: the entries of a list may differ in the keys that they leave out.
    """
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    wrong = [f"{where}{key}" for key in set(fields) ^ {key for one in shown for key in one}]
    for key, field in fields.items():
        values = [one[key] for one in shown if key in one]
        items = [item for one in values for item in (one if isinstance(one, list) else [one])]
        inner, documents = records_in(field.annotation), [i for i in items if isinstance(i, dict)]
        if inner and documents:
            wrong += differing_keys(inner[0], documents, f"{where}{key}.")
    return wrong


def examples():
    """Return the JSON documents that the page on formats shows, by their schema."""
    shown = [json.loads(block.code) for block in blocks_of(FORMATS) if block.language == "json"]
    return {one["schema"]: one for one in shown}


def test_the_readme_is_read_in_a_few_minutes():
    """
    It has at most 140 lines, and its sentences at most 16 words on the mean.
    """
    text = README.read_text("utf-8")

    assert len(text.splitlines()) <= N_LINES_OF_README
    assert fmean(len(one.split()) for one in sentences_of(text)) <= N_WORDS_OF_A_SENTENCE


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    """
    A link inside the repository names a file that is there, and a heading that the file has.
    """
    broken = []
    for link in LINK.findall(page.read_text("utf-8")):
        if re.match(r"https?://", link):
            continue
        path, _, fragment = link.partition("#")
        target = page.parent / path if path else page
        titles = TITLE.findall(target.read_text("utf-8")) if target.is_file() else []
        if not target.exists() or (fragment and fragment not in map(anchor, titles)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: page.stem)
def test_links_between_pages_can_be_typed(page):
    """
    A page links to others by their bare names, so that `loco docs` takes what a terminal shows.
    """
    inside = [link for link in LINK.findall(page.read_text("utf-8")) if "://" not in link]
    names = {one.name for one in MANUAL}

    assert {link.partition("#")[0] for link in inside} - {""} <= names


@pytest.mark.parametrize("page", MANUAL, ids=lambda page: page.stem)
def test_generated_parts_are_up_to_date(page):
    """
    Keys, help, catalog and models are those of the code; `python -m tests.generate_docs` rewrites.
    """
    text = page.read_text("utf-8")

    assert text == updated(text), "run `python -m tests.generate_docs`"


def test_every_part_is_on_a_page():
    """
    What can be generated stands in the manual once.
    """
    text = "".join(page.read_text("utf-8") for page in MANUAL)

    assert sorted(re.findall(r"<!-- generated: (\w+) -->", text)) == sorted(PARTS)


def test_every_page_says_what_it_is_about():
    """
    A page begins with its title and one line, which `loco docs` lists, and the README links to it.
    """
    readme = README.read_text("utf-8")

    for page in list_pages():
        assert page.text.startswith(f"# {page.title}\n\n{page.summary}\n\n")
        assert page.summary.endswith(".")
        assert f"(loco_cli/docs/{page.name}.md)" in readme


@pytest.mark.parametrize("schema", sorted(schemas()))
def test_formats_show_every_key(schema):
    """
    The example of a document has the keys that the document can have, and no others.
    """
    assert differing_keys(schemas()[schema], [examples()[schema]]) == []


def test_every_schema_is_on_the_page():
    """
    Every schema that the package writes is named on the page about formats.
    """
    named = re.compile(r"\"(loco\.[a-z-]+/\d)\"")
    sources = (path.read_text("utf-8") for path in (ROOT / "loco_cli").rglob("*.py"))
    text = FORMATS.read_text("utf-8")

    assert sorted({one for source in sources for one in named.findall(source)} - found(text)) == []


def found(text):
    """Return the schemas that a text names."""
    return set(re.findall(r"loco\.[a-z-]+/\d", text))


def test_the_readme_names_the_torch_that_is_asked_for():
    """
    The range that the README gives for an installation without CUDA is that of the package.
    """
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    wanted = re.search(r'"(torch[^"]+)"', project)

    assert wanted
    assert f'"{wanted[1]}"' in README.read_text("utf-8")


def test_the_version_is_the_same_everywhere():
    """
    Changelog and citation speak of the version that the package has, and of one date.
    """
    from loco_cli import __version__

    log = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    release = re.search(r"^## \[(?P<version>[\d.]+)\] - (?P<date>\S+)$", log, re.M)

    assert release
    assert release["version"] == __version__
    assert f"version: {__version__}\n" in citation
    assert f"date-released: {release['date']}\n" in citation
