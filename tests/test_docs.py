"""The README, the manual and the pages for contributors: links, paths and generated parts."""

import json
import re
from statistics import fmean
from typing import get_args

from pydantic import BaseModel

from loco_cli import diff, evaluation, localization, manifest, plan, trace
from loco_cli.commands.docs import list_pages
from loco_cli.records import Record
from tests.generate_docs import PARTS, updated
from tests.pages import MANUAL, PAGES, README, ROOT, blocks_of, sentences_of

MAX_README_LINES = 140
MAX_MEAN_WORDS = 16  # per sentence of the README
LINK = re.compile(r"\[[^]]*\]\((?!https?://)([^)\s]+)\)")
TITLE = re.compile(r"^#+ (.*)$", re.M)
FORMATS = ROOT / "loco_cli" / "docs" / "formats.md"
ARCHITECTURE = ROOT / ".github" / "ARCHITECTURE.md"
CONTRIBUTING = ROOT / ".github" / "CONTRIBUTING.md"
DOCUMENTS = (diff, evaluation, localization, manifest, plan, trace)


def anchor(title):
    """Return the fragment that links to a heading."""
    return re.sub(r"[^\w -]", "", title.lower().replace("`", "")).replace(" ", "-")


def schemas():
    """Return the record of each schema."""
    classes = [c for module in DOCUMENTS for c in vars(module).values() if isinstance(c, type)]
    records = [c for c in classes if issubclass(c, Record) and "schema_" in c.model_fields]
    return {record.model_fields["schema_"].default: record for record in records}


def records_in(annotation):
    """Return the record classes in an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [record for part in get_args(annotation) for record in records_in(part)]


def differing_keys(record, examples, prefix=""):
    """
    Return the keys of a record that no example has, and the keys of examples that it lacks.

    Entries of a list are examples of one record; each may omit optional keys.
    """
    fields = {field.alias or name: field for name, field in record.model_fields.items()}
    keys = set(fields) ^ {key for example in examples for key in example}
    wrong = [f"{prefix}{key}" for key in keys]
    for key, field in fields.items():
        values = [example[key] for example in examples if key in example]
        items = [item for v in values for item in (v if isinstance(v, list) else [v])]
        inner, documents = records_in(field.annotation), [i for i in items if isinstance(i, dict)]
        if inner and documents:
            wrong += differing_keys(inner[0], documents, f"{prefix}{key}.")
    return wrong


def examples():
    """Return the JSON documents on the formats page by schema."""
    blocks = [json.loads(block.code) for block in blocks_of(FORMATS) if block.language == "json"]
    return {document["schema"]: document for document in blocks}


def test_the_readme_is_short():
    """The README has at most 140 lines, and its sentences have at most 16 words on average."""
    text = README.read_text("utf-8")

    assert len(text.splitlines()) <= MAX_README_LINES
    assert fmean(len(sentence.split()) for sentence in sentences_of(text)) <= MAX_MEAN_WORDS


def test_every_link_resolves():
    """
    A link or picture inside the repository exists, with its heading.

    A manual page links to others by file name, so `loco docs` accepts the name in a link.
    """
    broken = []
    pages = {"", *(page.name for page in MANUAL)}
    for page in (*PAGES, ARCHITECTURE, CONTRIBUTING):
        for link in LINK.findall(page.read_text("utf-8")):
            path, _, fragment = link.partition("#")
            target = page.parent / path if path else page
            titles = TITLE.findall(target.read_text("utf-8")) if fragment else []
            is_sound = target.exists() and (not fragment or fragment in map(anchor, titles))
            is_name = path in pages or path.endswith((".png", ".svg"))
            if not is_sound or (page in MANUAL and not is_name):
                broken.append(f"{page.name}: {link}")

    assert broken == []


def test_the_guides_name_existing_files():
    """Every path in ARCHITECTURE.md and CONTRIBUTING.md exists, except placeholders in capitals."""
    for guide, path, n_min in (
        (ARCHITECTURE, r"`([\w./-]+(?:/|\.\w+))`", 60),
        (CONTRIBUTING, r"`((?:loco_cli|tests|recipes)/[\w/.]+|\w+\.md)`", 20),
    ):
        named = set(re.findall(path, guide.read_text("utf-8")))
        paths = {name for name in named if not re.search(r"[A-Z]{4,}(?!\w*\.md)", name)}
        folders = (ROOT, ROOT / "loco_cli", ROOT / ".github")

        missing = {p for p in paths if not any((folder / p).exists() for folder in folders)}
        assert missing <= {"models.yaml"}  # a file of the user
        assert len(paths) > n_min


def test_generated_parts_are_up_to_date():
    """Keys, help, catalog and models on the pages match the code, and each occurs once."""
    texts = {page.name: page.read_text("utf-8") for page in MANUAL}
    parts = re.findall(r"<!-- generated: (\w+) -->", "".join(texts.values()))

    outdated = [name for name, text in texts.items() if text != updated(text)]
    assert outdated == [], "run `python -m tests.generate_docs`"
    assert sorted(parts) == sorted(PARTS)


def test_every_page_has_a_summary():
    """A page begins with its title and a summary for `loco docs`, and the README links to it."""
    readme = README.read_text("utf-8")

    for page in list_pages():
        assert page.text.startswith(f"# {page.title}\n\n{page.summary}\n\n")
        assert page.summary.endswith(".")
        assert f"(loco_cli/docs/{page.name}.md)" in readme


def test_formats_show_every_key():
    """The page names every schema; the example of each has exactly the keys of its record."""
    shown, text = examples(), FORMATS.read_text("utf-8")
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "loco_cli").rglob("*.py"))

    named = re.findall(r"\"(loco\.[a-z-]+/\d)\"", sources)
    assert [schema for schema in named if schema not in text] == []
    for schema, record in schemas().items():
        assert (schema, differing_keys(record, [shown[schema]])) == (schema, [])


def test_the_architecture_has_every_room():
    """The table of rooms lists every package folder."""
    rooms = re.findall(r"^\| `(\w+)/` \|", ARCHITECTURE.read_text("utf-8"), re.M)
    folders = {path.parent.name for path in (ROOT / "loco_cli").glob("*/__init__.py")}

    assert set(rooms) == folders


def test_versions_agree():
    """Package, changelog and citation have one version and date; the README has torch's range."""
    from loco_cli import __version__

    log = (ROOT / "CHANGELOG.md").read_text("utf-8")
    citation = (ROOT / "CITATION.cff").read_text("utf-8")
    ((version, date), *_) = re.findall(r"^## \[([\d.]+)\] - (\S+)$", log, re.M)
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    (required, *_) = re.findall(r'"torch[^"]+"', project)

    assert required in README.read_text("utf-8")
    assert version == __version__
    assert f"version: {version}\n" in citation
    assert f"date-released: {date}\n" in citation
