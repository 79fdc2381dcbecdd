import contextlib
from hashlib import sha256
from pathlib import Path

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
# what it is for
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


def test_only_the_edits_are_needed():
    """
    A format version and one edit make a recipe; everything else has a default.
    """
    recipe = load(MINIMAL)

    assert recipe.model == "tiny"
    assert recipe.preserve == recipe.edit.layer_range == recipe.edit.ridge == "auto"
    assert recipe.edit.layers is None
    assert recipe.concepts[0].to == "painting"


def test_keeps_its_text_and_digest():
    """
    The record holds the file verbatim, comments and line ends included, and its SHA-256.
    """
    text = "# why\r\n" + MINIMAL

    recipe = load(text, "edit.ridge=0.1")

    assert recipe.text == text
    assert recipe.sha256 == sha256(text.encode()).hexdigest()
    assert recipe.overrides == {"edit.ridge": 0.1}
    assert recipe.name == "recipe"


@pytest.mark.parametrize("text", [MINIMAL, FULL])
def test_rendering_says_the_same(text):
    """
    A rendered recipe loads to the same document, defaults and overrides written out.
    """
    recipe = load(text, "edit.layers=[1, 10]")

    again = load(render_recipe(recipe))

    assert again.document() == recipe.document()
    assert again.edit.layers == (1, 10)


@given(subject=st.text(), to=st.text())
def test_any_words_survive_the_file(subject, to):
    """
    A concept in any words is refused, or comes back from its file as it was.
    """
    try:
        recipe = recipe_from_text(subject, kind="object", to=to)
    except (ConceptError, RecipeError):
        return

    (concept,) = load_recipe(recipe.text, "again.yaml").concepts
    assert concept == recipe.concepts[0]
    assert concept.subject == " ".join(subject.split())


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1e-2x", "1e-2x"),
        ("8:10", "8:10"),
        ("2024-01-01", "2024-01-01"),
    ],
)
def test_words_stay_words(word, expected):
    """
    What YAML 1.1 takes for a boolean, a number in base 60 or a date is a word here.
    """
    assert load(MINIMAL.replace("van gogh", word)).edits[0].subject == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("auto", "auto"),
        ("0.01", Ridge(0.01)),
        ("1e-2", Ridge(0.01)),
        ("1", Ridge(1.0)),
        ("'0.5'", Ridge(0.5)),
        ("0.01x", Ridge(0.01, is_relative=True)),
        ("'1e-2x'", Ridge(0.01, is_relative=True)),
    ],
)
def test_reads_a_ridge(value, expected):
    """
    A ridge is `auto`, λ itself, or with an x a multiple of the keys' mean squared norm.
    """
    assert load(MINIMAL, f"edit.ridge={value}").edit.ridge == expected


def test_a_relative_ridge_scales_with_the_keys():
    """
    Only a relative ridge depends on the keys.
    """
    assert Ridge(0.01).resolve(784.0) == 0.01
    assert Ridge(0.01, is_relative=True).resolve(784.0) == pytest.approx(7.84)
    assert (str(Ridge(0.01)), str(Ridge(0.01, is_relative=True))) == ("0.01", "0.01x")


ERRORS = [
    # change to FULL (old, new), line, message, hint
    ("ridge: '0.01x'", "rigde: 1", 18, "unknown key `edit.rigde`", "did you mean `edit.ridge`?"),
    ("title:", "titel:", 3, "unknown key `titel`", "did you mean `title`?"),
    ("    to: painting", "    too: x", 8, "unknown key `edits.0.too`", "the keys there are kind, "),
    ("tags:", "ridge: 1\ntags:", 20, "unknown key `ridge`", "did you mean `edit.ridge`?"),
    ("tags:", "model: sd14\ntags:", 20, "key `model` is repeated, first on line 4", None),
    ("tags: [style, fact]", "tags:", 20, "`tags` is empty", None),
    ("tags: [style, fact]", "tags: style", 20, "`tags` is `style`, not a list", "write it like"),
    ("kind: style", "kind: stile", 6, "`edits.0.kind` is `stile`", "choose style, object or fact"),
    ("subject: van gogh", "subject: 1984", 7, "`edits.0.subject` is `1984`, not text", "in quotes"),
    ("subject: van gogh", 'subject: " "', 7, "`edits.0.subject` is empty", None),
    ("aliases: [vincent]", "aliases: []", 11, "`edits.0.aliases` is empty", None),
    ("aliases: [vincent]", "aliases: [van gogh]", 6, "name the same thing twice", None),
    ("    to: king charles\n", "", 12, "does not say what it goes to", "give `to:` in the recipe"),
    ("the british monarch", "Vincent", 13, "edits 0 and 1 are both of `Vincent`", None),
    ('["{to}", "a painting"]', '["{to}"]\n    was: x', 6, "cannot have `was`", None),
    (
        "king charles",
        "Vincent",
        12,
        "edits 1 and 0 contradict: `the british monarch` goes to",
        None,
    ),
    ("to: painting", "to: British Monarch", 6, "edits 0 and 1 contradict: `van gogh` goes", "drop"),
    ("[monet,", "[The  Vincent,", 16, "`The  Vincent` is both edited and under `preserve`", None),
    ("[monet,", "[a house by Vincent,", 16, "`a house by Vincent` asks for the style that", None),
    ("[monet,", "[queen elizabeth,", 16, "`queen elizabeth` is both edited and under", None),
    ("[monet,", "[a Painting in the style of van gogh,", 16, "is both edited and under", None),
    (
        '["{subject}",',
        "[{subject},",
        9,
        "`edits.0.source.0` is a mapping, not text",
        "needs quotes",
    ),
    ('["{subject}", "a', '["{to}", "a', 6, "source prompt `{to}` has no `{subject}`", None),
    ("loco: 1", "loco: 2", 2, "format `2` is not known", "this version reads `loco: 1`"),
    ("loco: 1", "loco: true", 2, "is `true`, not a number", None),
    ("seeds: 2", "pooled: 1", 17, "`localize.pooled` is `1`, not true or false", None),
    ("seeds: 2", "seeds: 0", 17, "`localize.seeds` is `0`, not at least 1", None),
    ("seeds: 2", "seeds: true", 17, "`localize.seeds` is `true`, not a number", None),
    ("seeds: 2", "seeds: two", 17, "`localize.seeds` is `two`, not a whole number", None),
    ("effect: 0.8", "effect: 1.1", 17, "`localize.effect` is `1.1`, not at most 1", None),
    ("effect: 0.8", "effect: 1e999", 17, "not a finite number", None),
    ("width: auto", "width: 0", 17, "`localize.width` is `0`, not `auto` or a number", None),
    ("search: fast", "search: slow", 17, "`localize.search` is `slow`", "choose fast or exhaust"),
    ("[8, 10]", "8:10", 18, "`edit.layer_range` is `8:10`, not `auto`, `published` or two", None),
    ("[8, 10]", "[10, 8]", 18, "`edit.layer_range` is `[10, 8]`, which is empty", None),
    ("[8, 10]", "[8, x]", 18, "`edit.layer_range` holds `x`; a layer is a whole number", None),
    ("[8, 10]", "[8, 10], layers: [1]", 18, "has both `layer_range` and `layers`", None),
    ("layer_range: [8, 10]", "layers: [1, 1]", 18, "which names a layer twice", None),
    ("layer_range: [8, 10]", "layers: 3", 18, "not a list of layers such as `[1, 2, 10]`", None),
    ("'0.01x'", "-1", 18, "`edit.ridge` is `-1`, not `auto`, a number above 0", None),
    ("'0.01x'", "0", 18, "`edit.ridge` is `0`, not `auto`, a number above 0", None),
    ("[monet, a photo of a cat]", "[]", 16, "`preserve` is empty; write `none`", None),
    ("[monet, a photo of a cat]", "monet", 16, "not `auto`, `none` or a list of subjects", None),
    ("title: Remove", "title: !!python/name:os.system ", 3, "is not allowed", None),
    ("title: Remove", "title: [", 4, "expected", None),
    ("preserve:", "preserve: &a [*a]\nx:", 16, "nested too deep or holds too many", None),
]


@pytest.mark.parametrize(("old", "new", "line", "message", "hint"), ERRORS)
def test_an_error_has_file_line_and_key(old, new, line, message, hint):
    """
    What is wrong with a recipe is said in one sentence, with file, line, key and the way out.
    """
    assert old in FULL
    with pytest.raises(RecipeError) as caught:
        load(FULL.replace(old, new, 1))

    error = caught.value
    assert message in error.message
    assert f"`recipe.yaml:{line}`" in error.message or "nested too deep" in error.message
    assert (hint or "") in (error.hint or "")
    assert error.exit_code == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("van gogh", "is no mapping of keys"),
        ("- 1", "is no mapping of keys"),
        ("loco: 1", "key `edits` is missing"),
        ("edits: [{kind: style, subject: monet}]", "key `loco` is missing"),
        ("loco: 1\nedits: []", "`edits` is empty"),
        ("loco: 1\nedits: 3", "`edits` is `3`, not a list"),
        ("loco: 1\nedits: [3]", "`edits.0` is `3`, not a mapping of keys"),
        ("loco: 1\n---\nloco: 1", "but found another document"),
        ("loco: 1\nedits:\n\t- x", "cannot start any token"),
        ("? [a]\n: 1", "a key must be a word"),
        ("loco: 1\x00", "is not allowed"),
        ("loco: \udc80", "is not text in UTF-8"),
        ("x: " + "[" * 5000, "nested too deep"),
        ("x: [" + "1," * 50_000 + "]", "holds too many values"),
        ("x" * (MAX_BYTES + 1), "is longer than"),
    ],
)
def test_refuses_what_is_no_recipe(text, message):
    """
    A file that is no recipe is refused, however it is built, in little time.
    """
    with pytest.raises(RecipeError) as caught:
        load(text)

    assert message in caught.value.message


def test_aliases_cannot_multiply():
    """
    A file whose anchors would unfold to billions of values is refused.
    """
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]

    with pytest.raises(RecipeError, match="too many values"):
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
        ("edit.layer_range=[8, 10]", lambda r: r.edit.layer_range, (8, 10)),
        ("edit.layers=[10, 1]", lambda r: r.edit.layers, (1, 10)),
        ("localize.seeds=8", lambda r: r.localize.seeds, 8),
        ("tags=[]", lambda r: r.tags, ()),
    ],
)
def test_sets_a_key(setting, read, expected):
    """
    `--set KEY=VALUE` reads VALUE as YAML, or verbatim where the key is text.
    """
    assert read(load(MINIMAL, setting)) == expected


def test_reaches_into_one_of_several_edits():
    """
    With several edits a key counts them; without a number it is refused, with the way out.
    """
    assert load(FULL, "edits.1.to=william").edits[1].to == "william"
    with pytest.raises(RecipeError) as caught:
        load(FULL, "subject=monet")

    assert caught.value.message == "`--set subject=monet`: the recipe has 2 edits"
    assert caught.value.hint == "say which, counted from 0: `edits.0.subject`"


def test_a_set_of_layers_takes_the_place_of_a_range():
    """
    Setting `edit.layers` drops the file's `edit.layer_range`, and the other way round.
    """
    both = load(FULL, "edit.layers=[1, 10]", "edit.layer_range=[2, 4]")

    assert load(FULL, "edit.layers=[1, 10]").edit.layers == (1, 10)
    assert load(FULL, "edit.layers=[1, 10]").edit.layer_range is None
    assert (both.edit.layer_range, both.edit.layers) == ((2, 4), None)


def test_options_are_overrides_that_name_themselves():
    """
    An option that is given sets its key, and an error names the option.
    """
    options = {"--ridge": ("edit.ridge", "0.1x"), "--seeds": ("localize.seeds", None)}
    wrong = Override.of_options({"--layer-range": ("edit.layer_range", (10, 8))})

    recipe = load_recipe(MINIMAL, "recipe.yaml", Override.of_options(options))

    assert recipe.edit.ridge == Ridge(0.1, is_relative=True)
    assert recipe.overrides == {"edit.ridge": "0.1x"}
    with pytest.raises(RecipeError, match=r"^`--layer-range`: `edit\.layer_range` is"):
        load_recipe(MINIMAL, "recipe.yaml", wrong)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("edit.rigde=1", "`--set edit.rigde=1`: unknown key `edit.rigde`"),
        ("edit.ridge=-1", "`--set edit.ridge=-1`: `edit.ridge` is `-1`"),
        ("edit.ridge", "`--set edit.ridge` is no `KEY=VALUE`"),
        ("=1", "`--set =1` is no `KEY=VALUE`"),
        ("edit={", "`--set edit={`: `{` is no value in YAML"),
        ("preserve=", "`--set preserve=`: `` is no value in YAML"),
        ("edits.3.to=x", "`--set edits.3.to=x`: there is no `edits.3.to`"),
        ("edits.x=1", "`--set edits.x=1`: there is no `edits.x`"),
        ("loco.x=1", "`--set loco.x=1`: there is nothing below a single value"),
        ("0.x=1", "`--set 0.x=1`: unknown key `0`"),
        ("to=van gogh", "`--set to=van gogh`: `van gogh` goes to `van gogh`"),
        ("edits=[]", "`--set edits=[]`: `edits` is empty"),
    ],
)
def test_a_wrong_setting_is_named(setting, message):
    """
    An error that `--set` caused names the setting, not a line of the file.
    """
    with pytest.raises(RecipeError) as caught:
        load(MINIMAL, setting)

    assert message in caught.value.message


def test_text_becomes_a_recipe_that_can_be_saved():
    """
    A concept in words gives the record that its own text gives when it is read again.
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


@pytest.mark.parametrize(
    ("text", "expected"),
    [("Van Gogh style", "van-gogh-style"), ("R2-D2!", "r2-d2"), ("???", "recipe"), ("../x", "x")],
)
def test_a_name_is_fit_for_a_file(text, expected):
    """
    A name made of words has no separators, spaces or capitals, and is never empty.
    """
    assert _slug(text) == expected


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.name)
def test_shipped_recipes_are_sound(entry):
    """
    Every shipped recipe loads, names a known model, says what it does, and begins by saying why.
    """
    recipe = entry.load()

    assert entry.origin == "shipped"
    assert recipe.title
    assert recipe.tags
    assert recipe.model in registry.names()
    assert recipe.text.startswith("# ")


def test_ships_the_recipes_that_are_promised():
    """
    The recipes of the README and of the examples in `--help` are in the catalog.
    """
    names = {entry.name for entry in entries()}

    assert names >= {
        "many_edits", "remove_style", "replace_object", "update_fact", "update_president",
    }  # fmt: skip


def test_an_argument_is_a_path_then_a_name_then_text(tmp_path, monkeypatch):
    """
    What a command is given is an existing file, else a name of the catalog, else words.
    """
    monkeypatch.chdir(tmp_path)
    assert read_recipe("remove_style").concepts[0].subject == "van gogh"
    assert read_recipe("snoopy").concepts[0].subject == "snoopy"

    Path("remove_style").write_text(MINIMAL.replace("van gogh", "klimt"))

    assert read_recipe("remove_style").concepts[0].subject == "klimt"


def test_the_users_recipes_stand_before_the_shipped():
    """
    A recipe in the user's own folder is found by name, before a shipped one of that name.
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


@pytest.mark.parametrize(
    ("argument", "error", "message", "hint"),
    [
        ("remove_stlye", UnknownName, "unknown recipe `remove_stlye`", "did you mean `remove_st"),
        ("remove style", UnknownName, "unknown recipe `remove style`", "with `--kind` it is"),
        ("my_recipe", UnknownName, "unknown recipe `my_recipe`", "`loco recipes list`"),
        ("nowhere.yaml", RecipeError, "no such recipe `nowhere.yaml`", "`loco recipes list`"),
        ("nowhere/x", RecipeError, "no such recipe `nowhere/x`", "`loco recipes list`"),
        ("x/remove_style.yml", RecipeError, "no such recipe", "the catalog has `remove_style`"),
        (".", RecipeError, "recipe `.` is a folder", "`--kind object`"),
        ("", ConceptError, "concept `` has no subject", "write it like"),
        ("style", ConceptError, "concept `style` has no subject", "write it like"),
        ("the pope fact", ConceptError, "fact `the pope` does not say", "`--to`"),
        ("x\0y", ConceptError, "holds a control character", ""),
    ],
)
def test_a_typo_is_not_taken_for_words(argument, error, message, hint):
    """
    What looks like a file or a name and is none is refused, not edited as an object.
    """
    with pytest.raises(error) as caught:
        read_recipe(argument)

    assert message in caught.value.message
    assert hint in (caught.value.hint or "")


def test_a_kind_makes_anything_words(tmp_path, monkeypatch):
    """
    With a kind given, text that is like a name or a folder is a subject.
    """
    monkeypatch.chdir(tmp_path)
    Path("snoopy").mkdir()

    assert read_recipe("remove style", kind="object").concepts[0].subject == "remove style"
    assert read_recipe("snoopy", kind="object").concepts[0].subject == "snoopy"
    assert read_recipe("x" * 5000, kind="object").concepts[0].subject == "x" * 5000


def test_refuses_files_that_are_not_text(tmp_path):
    """
    A file that is not UTF-8, is too large or cannot be read is refused by its name.
    """
    binary, large = tmp_path / "binary.yaml", tmp_path / "large.yaml"
    binary.write_bytes(b"loco: \xff\xfe")
    large.write_bytes(b"#" * (MAX_BYTES + 1))

    for path, message in ((binary, "is not text in UTF-8"), (large, "is longer than")):
        with pytest.raises(RecipeError, match=message):
            read_recipe(str(path))


def test_a_byte_order_mark_is_no_key(tmp_path):
    """
    A file that an editor began with a byte order mark reads as if it had none.
    """
    path = tmp_path / "marked.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())

    assert read_recipe(str(path)).concepts[0].subject == "van gogh"


def test_the_schema_knows_every_key():
    """
    The JSON schema holds every key of a recipe, each with a sentence about it.
    """
    schema = recipe_schema()

    assert set(schema["properties"]) == set(RecipeDocument.model_fields)
    for section in (EditEntry, LocalizeSettings, EditSettings, EvaluateSettings):
        properties = schema["$defs"][section.__name__]["properties"]
        assert set(properties) == set(section.model_fields)
        assert all(entry["description"] for entry in properties.values())


def test_the_starter_is_a_recipe():
    """
    The file that `loco recipes new` writes is sound as it is.
    """
    assert load(render_starter("my_style")).concepts[0].subject == "van gogh"


@given(st.text(max_size=60), st.sampled_from(["", MINIMAL]))
def test_no_text_is_a_bug(text, before):
    """
    Whatever a file holds, it loads or is refused as a wrong request.
    """
    with contextlib.suppress(RequestError):
        load(before + text)
