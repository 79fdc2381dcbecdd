"""Recipes: parsing, overrides, error messages, the catalog and the schema."""

import contextlib
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loco_cli.errors import ConceptError, RecipeError, RequestError, UnknownName
from loco_cli.families import registry
from loco_cli.recipe.catalog import entries, read_recipe, user_folder
from loco_cli.recipe.load import (
    Override,
    _slug,
    load_recipe,
    recipe_from_text,
    recipe_schema,
    render_recipe,
    render_starter,
)
from loco_cli.recipe.record import (
    EditEntry,
    EditSettings,
    EvaluateSettings,
    LocalizeSettings,
    RecipeDocument,
)
from loco_cli.recipe.tree import MAX_BYTES
from loco_cli.recipe.values import Ridge

MINIMAL = """\
loco: 1
edits:
  - kind: style
    subject: van gogh
"""
FULL = """\
# Remove a style and update a fact.
loco: 1
title: Remove the style of Van Gogh
model: tiny
edits:
  - kind: style
    subject: van gogh
    to: painting
    source: ["{subject}", "a painting in the style of {subject}"]
    target: ["{to}", "a painting"]
    aliases: [vincent]
  - kind: fact
    subject: the british monarch
    to: king charles
    was: queen elizabeth
preserve: [monet, a photo of a cat]
localize: {method: locogen, search: fast, width: auto, seeds: 2, effect: 0.8}
edit: {method: locoedit, layer_range: [8, 10], ridge: '0.01x', tokens: last-subject}
evaluate: {seeds: 8, forget: [a house by van gogh], keep: [a photo of a cat]}
tags: [style, fact]
"""


def load(text, *settings):
    return load_recipe(text, "recipe.yaml", [Override.parse(one) for one in settings])


def test_reads_every_key():
    """
    Each key of the file is a field of the record, with its value parsed.
    """
    recipe = load(FULL)

    van_gogh, monarch = recipe.concepts
    assert recipe.title == "Remove the style of Van Gogh"
    assert van_gogh.names == ("van gogh", "vincent")
    assert monarch.was == "queen elizabeth"
    assert recipe.preserve == ("monet", "a photo of a cat")
    assert (recipe.localize.search, recipe.localize.width, recipe.localize.seeds) == (
        "fast",
        "auto",
        2,
    )
    assert recipe.edit.layer_range == (8, 10)
    assert recipe.edit.tokens == "last-subject"
    assert recipe.evaluate.keep == ("a photo of a cat",)
    assert recipe.tags == ("style", "fact")


def test_only_version_and_edits_are_required():
    """
    A format version and one edit make a recipe; all other keys have defaults.
    """
    recipe = load(MINIMAL)

    assert recipe.model == "tiny"
    assert recipe.preserve == recipe.edit.layer_range == recipe.edit.ridge == "auto"
    assert recipe.edit.layers is None
    assert recipe.concepts[0].to == "painting"


def test_keeps_its_text_and_digest():
    """
    The record has the file verbatim, with comments and line ends, and its SHA-256.
    """
    text = "# why\r\n" + MINIMAL

    recipe = load(text, "edit.ridge=0.1")

    assert recipe.text == text
    assert recipe.sha256 == sha256(text.encode()).hexdigest()
    assert recipe.overrides == {"edit.ridge": 0.1}
    assert recipe.name == "recipe"


def test_a_rendered_recipe_loads_again():
    """
    A rendered recipe loads to the same document, with defaults and overrides.
    """
    for text in (MINIMAL, FULL):
        recipe = load(text, "edit.layers=[1, 10]")

        again = load(render_recipe(recipe))

        assert again.document() == recipe.document()
        assert again.edit.layers == (1, 10)


@given(subject=st.text(), to=st.text())
def test_any_text_survives_the_file(subject, to):
    """
    A concept is refused, or it comes back unchanged from its file.
    """
    try:
        recipe = recipe_from_text(subject, kind="object", to=to)
    except (ConceptError, RecipeError):
        return

    (concept,) = load_recipe(recipe.text, "again.yaml").concepts
    assert concept == recipe.concepts[0]
    assert concept.subject == " ".join(subject.split())


def test_reads_words_as_in_yaml_1_2():
    """
    Booleans, base 60 numbers and dates of YAML 1.1 are text.
    """
    for word in ("no", "on", "1e-2x", "8:10", "2024-01-01"):
        assert load(MINIMAL.replace("van gogh", word)).edits[0].subject == word


def test_reads_a_ridge():
    """
    A ridge is `auto`, λ, or with an x a multiple of the keys' mean squared norm.
    """
    ridges = {
        "auto": "auto",
        "0.01": Ridge(0.01),
        "1e-2": Ridge(0.01),
        "1": Ridge(1.0),
        "'0.5'": Ridge(0.5),
        "0.01x": Ridge(0.01, is_relative=True),
        "'1e-2x'": Ridge(0.01, is_relative=True),
    }

    assert {text: load(MINIMAL, f"edit.ridge={text}").edit.ridge for text in ridges} == ridges


def test_a_relative_ridge_scales_with_the_keys():
    """
    Only a relative ridge depends on the keys.
    """
    assert Ridge(0.01).resolve(784.0) == 0.01
    assert Ridge(0.01, is_relative=True).resolve(784.0) == pytest.approx(7.84)
    assert (str(Ridge(0.01)), str(Ridge(0.01, is_relative=True))) == ("0.01", "0.01x")


# change to FULL (old, new), place or key in the message
ERRORS = (
    ("ridge: '0.01x'", "rigde: 1", "edit.rigde"),
    ("title:", "titel:", "titel"),
    ("    to: painting", "    too: x", "edits.0.too"),
    ("tags:", "ridge: 1\ntags:", "ridge"),
    ("tags:", "model: sd14\ntags:", "model"),
    ("tags: [style, fact]", "tags:", "tags"),
    ("tags: [style, fact]", "tags: style", "tags"),
    ("kind: style", "kind: stile", "edits.0.kind"),
    ("subject: van gogh", "subject: 1984", "edits.0.subject"),
    ("subject: van gogh", 'subject: " "', "edits.0.subject"),
    ("aliases: [vincent]", "aliases: []", "edits.0.aliases"),
    ("aliases: [vincent]", "aliases: [van gogh]", "van gogh"),
    ("    to: king charles\n", "", "the british monarch"),
    ("the british monarch", "Vincent", "Vincent"),
    ('["{to}", "a painting"]', '["{to}"]\n    was: x', "was"),
    ("king charles", "Vincent", "Vincent"),
    ("to: painting", "to: British Monarch", "British Monarch"),
    ("[monet,", "[The  Vincent,", "The  Vincent"),
    ("[monet,", "[a house by Vincent,", "a house by Vincent"),
    ("[monet,", "[queen elizabeth,", "queen elizabeth"),
    ("[monet,", "[a Painting in the style of van gogh,", "a Painting in the style of van gogh"),
    ('["{subject}",', "[{subject},", "edits.0.source.0"),
    ('["{subject}", "a', '["{to}", "a', "{to}"),
    ("loco: 1", "loco: 2", "2"),
    ("loco: 1", "loco: true", "true"),
    ("seeds: 2", "pooled: 1", "localize.pooled"),
    ("seeds: 2", "seeds: 0", "localize.seeds"),
    ("seeds: 2", "seeds: true", "localize.seeds"),
    ("seeds: 2", "seeds: two", "localize.seeds"),
    ("effect: 0.8", "effect: 1.1", "localize.effect"),
    ("effect: 0.8", "effect: 1e999", "localize.effect"),
    ("width: auto", "width: 0", "localize.width"),
    ("search: fast", "search: slow", "localize.search"),
    ("[8, 10]", "8:10", "edit.layer_range"),
    ("[8, 10]", "[10, 8]", "edit.layer_range"),
    ("[8, 10]", "[8, 8]", "edit.layer_range"),
    ("[8, 10]", "[8, x]", "edit.layer_range"),
    ("[8, 10]", "[8, 10], layers: [1]", "layers"),
    ("layer_range: [8, 10]", "layers: [1, 1]", "edit.layers"),
    ("layer_range: [8, 10]", "layers: 3", "edit.layers"),
    ("'0.01x'", "-1", "edit.ridge"),
    ("'0.01x'", "0", "edit.ridge"),
    ("[monet, a photo of a cat]", "[]", "preserve"),
    ("[monet, a photo of a cat]", "monet", "preserve"),
    ("title: Remove", "title: !!python/name:os.system ", "recipe.yaml:3"),
    ("title: Remove", "title: [", "recipe.yaml:4"),
    ("preserve:", "preserve: &a [*a]\nx:", "recipe.yaml"),
)


def test_an_error_has_file_line_and_key(golden):
    """
    The error of a wrong recipe has its file, line and key, and a way out if there is one.
    """
    for old, new, name in ERRORS:
        assert old in FULL
        with golden.raises(RecipeError, "recipe.yaml", name):
            load(FULL.replace(old, new, 1))

    assert RecipeError.exit_code == 2


def test_refuses_files_of_another_form(golden):
    """
    A file that is not a recipe is refused in little time, however it is built.
    """
    for text in (
        "",
        "# nothing\n",
        "van gogh",
        "- 1",
        "loco: 1",
        "edits: [{kind: style, subject: monet}]",
        "loco: 1\nedits: []",
        "loco: 1\nedits: 3",
        "loco: 1\nedits: [3]",
        "loco: 1\n---\nloco: 1",
        "loco: 1\nedits:\n\t- x",
        "? [a]\n: 1",
        "loco: 1\x00",
        "loco: \udc80",
        "x: !!int a",
        "x: " + "[" * 5000,
        "x: [" + "1," * 50_000 + "]",
        "x" * (MAX_BYTES + 1),
    ):
        with golden.raises(RecipeError, "recipe.yaml"):
            load(text)


def test_limits_aliased_values(golden):
    """
    A file whose anchors would expand to billions of values is refused.
    """
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    with golden.raises(RecipeError, "recipe.yaml"):
        load("\n".join(lines))


@pytest.mark.parametrize(
    ("setting", "read", "expected"),
    [
        ("subject=monet", lambda r: r.edits[0].subject, "monet"),
        ("subject=1984", lambda r: r.edits[0].subject, "1984"),
        ("to=no: it = yes", lambda r: r.edits[0].to, "no: it = yes"),
        ("edits.0.subject=monet", lambda r: r.edits[0].subject, "monet"),
        ("aliases=[claude, oscar]", lambda r: r.edits[0].aliases, ("claude", "oscar")),
        ('source=["{subject}"]', lambda r: r.edits[0].source, ("{subject}",)),
        ("preserve=none", lambda r: r.preserve, "none"),
        ("edit.layers=[10, 1]", lambda r: r.edit.layers, (1, 10)),
        ("tags=[]", lambda r: r.tags, ()),
    ],
)
def test_sets_a_key(setting, read, expected):
    """
    `--set KEY=VALUE` parses VALUE as YAML, or keeps it verbatim if the key is text.
    """
    assert read(load(MINIMAL, setting)) == expected


def test_sets_a_key_of_one_of_several_edits(golden):
    """
    With several edits a key needs an index; without one, it is refused.
    """
    assert load(FULL, "edits.1.to=william").edits[1].to == "william"
    with golden.raises(RecipeError, "edits.0.subject"):
        load(FULL, "subject=monet")


def test_a_set_of_layers_replaces_a_range():
    """
    Setting `edit.layers` removes `edit.layer_range`, and the reverse.
    """
    both = load(FULL, "edit.layers=[1, 10]", "edit.layer_range=[2, 4]")

    assert load(FULL, "edit.layers=[1, 10]").edit.layers == (1, 10)
    assert load(FULL, "edit.layers=[1, 10]").edit.layer_range is None
    assert (both.edit.layer_range, both.edit.layers) == ((2, 4), None)


def test_an_option_overrides_its_key(golden):
    """
    An option sets its key, and an error names the option.
    """
    options = {"--ridge": ("edit.ridge", "0.1x"), "--seeds": ("localize.seeds", None)}
    wrong = Override.of_options({"--layer-range": ("edit.layer_range", (10, 8))})

    recipe = load_recipe(MINIMAL, "recipe.yaml", Override.of_options(options))

    assert recipe.edit.ridge == Ridge(0.1, is_relative=True)
    assert recipe.overrides == {"edit.ridge": "0.1x"}
    with golden.raises(RecipeError, "`--layer-range`"):
        load_recipe(MINIMAL, "recipe.yaml", wrong)


def test_the_error_of_a_setting_names_it(golden):
    """
    An error that `--set` caused names the setting instead of a line of the file.
    """
    for setting in (
        "edit.rigde=1",
        "edit.ridge=-1",
        "edit.ridge",
        "=1",
        "edit={",
        "preserve=",
        "edits.3.to=x",
        "edits.x=1",
        "loco.x=1",
        "0.x=1",
        "to=van gogh",
        "edits=[]",
    ):
        with golden.raises(RecipeError, f"--set {setting}"):
            load(MINIMAL, setting)


def test_text_becomes_a_recipe_file():
    """
    The recipe of a concept in words equals the recipe of its own text.
    """
    recipe = recipe_from_text(
        "van gogh style",
        to="drawing",
        sources=["{subject}", "a cat by {subject}"],
        targets=["{to}"],
    )

    assert recipe.concepts[0].to == "drawing"
    assert recipe.name == "van-gogh-style"
    assert load_recipe(recipe.text, "saved.yaml").document() == recipe.document()


def test_a_name_is_a_valid_file_name():
    """
    A name made of words has no separators, spaces or capitals, and is never empty.
    """
    names = {"Van Gogh style": "van-gogh-style", "R2-D2!": "r2-d2", "???": "recipe", "../x": "x"}

    assert {text: _slug(text) for text in names} == names


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_shipped_recipes_are_complete(entry):
    """
    Every shipped recipe loads, has a title, tags and a known model, and begins with a comment.
    """
    recipe = entry.load()

    assert entry.origin == "shipped"
    assert recipe.title
    assert recipe.tags
    assert recipe.model in registry.names()
    assert recipe.text.startswith("# ")


def test_an_argument_is_a_path_then_a_name_then_text(here):
    """
    An argument is an existing file, else a catalog name, else text.
    """
    assert read_recipe("remove_style").concepts[0].subject == "van gogh"
    assert read_recipe("snoopy").concepts[0].subject == "snoopy"

    (here / "remove_style").write_text(MINIMAL.replace("van gogh", "klimt"))

    assert read_recipe("remove_style").concepts[0].subject == "klimt"


def test_a_recipe_of_the_user_hides_a_shipped_one():
    """
    A recipe in the user's folder hides a shipped recipe of the same name.
    """
    user_folder().mkdir(parents=True)
    (user_folder() / "remove_style.yml").write_text(MINIMAL.replace("van gogh", "klimt"))

    assert read_recipe("remove_style").concepts[0].subject == "klimt"
    assert {entry.name: entry.origin for entry in entries()}["remove_style"] == "yours"


def test_kind_and_to_override_a_file():
    """
    For a recipe in a file, `--to` and `--prompt` set the keys of its edit.
    """
    recipe = read_recipe("replace_object", to="a fish", sources=["a photo of {subject}"])

    assert [pair.target for pair in recipe.edits[0].edit_pairs] == ["a photo of a fish"]
    assert recipe.overrides == {"to": "a fish", "source": ["a photo of {subject}"]}


def test_a_typo_is_not_text(golden):
    """
    An argument that looks like a file or a catalog name is refused, not edited as an object.
    """
    for argument, error in {
        "remove_stlye": UnknownName,
        "remove style": UnknownName,
        "my_recipe": UnknownName,
        "nowhere.yaml": RecipeError,
        "nowhere/x": RecipeError,
        "x/remove_style.yml": RecipeError,
        ".": RecipeError,
        "": ConceptError,
        "style": ConceptError,
        "the pope fact": ConceptError,
        "x\0y": ConceptError,
    }.items():
        with golden.raises(error, argument.removesuffix(" fact")):
            read_recipe(argument)


def test_with_a_kind_every_argument_is_text(here):
    """
    With a kind, an argument that looks like a name or a folder is a subject.
    """
    (here / "snoopy").mkdir()

    for argument in ("remove style", "snoopy", "x" * 5000):
        assert read_recipe(argument, kind="object").concepts[0].subject == argument


def test_refuses_files_that_are_not_text(tmp_path, golden):
    """
    A file that is not UTF-8, is too large or cannot be read is refused by name.
    """
    binary, large = tmp_path / "binary.yaml", tmp_path / "large.yaml"
    binary.write_bytes(b"loco: \xff\xfe")
    large.write_bytes(b"#" * (MAX_BYTES + 1))

    for path in (binary, large):
        with golden.raises(RecipeError, str(path)):
            read_recipe(str(path))


def test_ignores_a_byte_order_mark(tmp_path):
    """
    A byte order mark at the start of a file is not part of the first key.
    """
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())

    assert read_recipe(str(path)).concepts[0].subject == "van gogh"


def test_the_schema_has_every_key():
    """
    The JSON schema has every key of a recipe, each with a description.
    """
    schema = recipe_schema()

    assert set(schema["properties"]) == set(RecipeDocument.model_fields)
    for section in (EditEntry, LocalizeSettings, EditSettings, EvaluateSettings):
        properties = schema["$defs"][section.__name__]["properties"]
        assert set(properties) == set(section.model_fields)
        assert all(entry["description"] for entry in properties.values())


def test_the_starter_is_a_recipe():
    """
    The file that `loco recipes new` writes loads without changes.
    """
    assert load(render_starter("my_style")).concepts[0].subject == "van gogh"


@given(st.text(max_size=60), st.sampled_from(["", MINIMAL]))
def test_any_file_loads_or_is_refused(text, before):
    """
    A file with any content loads, or is refused with a RequestError.
    """
    with contextlib.suppress(RequestError):
        load(before + text)
