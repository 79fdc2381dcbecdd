import json

import pytest
from typer.testing import CliRunner

from loco_cli.cli.app import app
from loco_cli.recipe.catalog import entries, user_folder
from loco_cli.recipe.load import load_recipe, recipe_schema


def loco(*arguments):
    return CliRunner().invoke(app, ["recipes", *arguments])


def test_list_shows_what_ships():
    """
    The list has a line per recipe with its name, kinds and model, within 80 columns.
    """
    result = loco("list")

    assert result.exit_code == 0
    assert "remove_style" in result.stdout
    assert "Replace Snoopy" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_list_as_json_is_one_document():
    """
    `loco.recipes/1` names each recipe, its kinds, model, tags and origin.
    """
    document = json.loads(loco("list", "--json").stdout)

    assert document["schema"] == "loco.recipes/1"
    entry = next(one for one in document["recipes"] if one["name"] == "many_edits")
    assert entry["kinds"] == ["style", "object", "fact"]
    assert (entry["model"], entry["origin"], entry["problem"]) == ("tiny", "shipped", None)


def test_list_says_what_recipes_are():
    """
    A shipped recipe, of which a list reads the keys alone, is listed as its record has it.
    """
    listed = {one["name"]: one for one in json.loads(loco("list", "--json").stdout)["recipes"]}

    assert listed.keys() == {entry.name for entry in entries()}
    for entry in entries():
        recipe, line = entry.load(), listed[entry.name]
        assert (line["title"], line["model"]) == (recipe.title, recipe.model)
        assert line["tags"] == list(recipe.tags)
        assert line["kinds"] == list(dict.fromkeys(edit.kind for edit in recipe.edits))


def test_a_broken_recipe_does_not_hide_the_others():
    """
    A recipe of the user's that does not load is listed with what is wrong, escaped.
    """
    user_folder().mkdir(parents=True)
    (user_folder() / "broken.yaml").write_text('loco: 1\n"\\e[2J": 1\nedits: []\n')

    listed, document = loco("list"), json.loads(loco("list", "--json").stdout)

    assert listed.exit_code == 0
    assert "\x1b" not in listed.stdout
    assert "your own" in listed.stdout
    broken = next(one for one in document["recipes"] if one["name"] == "broken")
    assert "unknown key" in broken["problem"]
    assert len(document["recipes"]) > 1


def test_show_prints_the_file():
    """
    `show` prints a recipe byte for byte, so that it can be redirected into a new one.
    """
    result = loco("show", "remove_style")

    assert load_recipe(result.stdout, "copy.yaml").text == result.stdout
    assert result.stdout == json.loads(loco("show", "remove_style", "--json").stdout)["text"]


def test_show_needs_a_name_of_the_catalog():
    """
    An unknown name ends with 2 and the name that was probably meant.
    """
    result = loco("show", "remove_stile")

    assert result.exit_code == 2
    assert "hint: did you mean `remove_style`?" in result.stderr


def test_check_prints_what_a_recipe_comes_to():
    """
    `check` prints the recipe with overrides and defaults written out, which is a recipe again.
    """
    result = loco("check", "remove_style", "--set", "subject=monet", "--set", "edit.ridge=0.1x")

    checked = load_recipe(result.stdout, "checked.yaml")
    assert checked.concepts[0].subject == "monet"
    assert str(checked.edit.ridge) == "0.1x"


def test_check_as_json_keeps_text_and_overrides():
    """
    `loco.recipe/1` holds the text as it is written beside what it comes to.
    """
    result = loco("check", "remove_style", "--set", "subject=monet", "--json")

    document = json.loads(result.stdout)
    assert document["overrides"] == {"subject": "monet"}
    assert "van gogh" in document["text"]
    assert document["recipe"]["edits"][0]["subject"] == "monet"


def test_check_says_what_is_wrong(tmp_path):
    """
    A typo in a key ends with 2, with file, line, key and the way out.
    """
    path = tmp_path / "mine.yaml"
    path.write_text("loco: 1\nedits: [{kind: style, subject: monet}]\nedit: {rigde: 1}\n")

    result = loco("check", str(path))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: recipe `{path}:3`: unknown key `edit.rigde`\n\nhint: did you mean `edit.ridge`?\n"
    )


def test_new_writes_a_recipe_that_is_found_by_name():
    """
    `new` writes to the user's catalog, prints the path, and the recipe is sound.
    """
    result = loco("new", "remove_monet")

    assert result.stdout.strip() == str(user_folder() / "remove_monet.yaml")
    assert loco("check", "remove_monet").exit_code == 0


def test_new_takes_a_path(tmp_path):
    """
    With `--output` the recipe goes there, and its name is free.
    """
    path = tmp_path / "x.yaml"

    assert loco("new", "remove_style", "--output", str(path)).exit_code == 0
    assert path.read_text().startswith("# remove_style:")


def test_new_says_how_to_run_what_it_wrote(tmp_path):
    """
    The commands in the comments find the file: by its name in the catalog, else by its path.
    """
    path = tmp_path / "my recipe.yaml"
    loco("new", "mine")
    loco("new", "yours", "--output", str(path))

    in_catalog, elsewhere = (p.read_text() for p in (user_folder() / "mine.yaml", path))
    assert "# Run it:    loco edit mine\n" in in_catalog
    assert f"# Run it:    loco edit '{path}'\n" in elsewhere


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["remove_style"], 2, "recipe `remove_style` is in the catalog (shipped)"),
        (["../x"], 2, "`../x` is no name for a recipe"),
        (["x", "--output", "{tmp}/taken.yaml"], 2, "exists"),
        (["x", "--output", "{tmp}/no/x.yaml"], 2, "/no` to write into"),
        (["x", "--output", "{tmp}/taken.yaml/x.yaml"], 2, "/taken.yaml` to write into"),
    ],
)
def test_new_overwrites_nothing(arguments, code, message, tmp_path):
    """
    A name or path that is taken, is no name, or cannot be written is refused.
    """
    (tmp_path / "taken.yaml").write_text("mine")

    result = loco("new", *(one.replace("{tmp}", str(tmp_path)) for one in arguments))

    assert result.exit_code == code
    assert message in result.stderr
    assert (tmp_path / "taken.yaml").read_text() == "mine"


def test_new_overwrites_when_forced(tmp_path):
    """
    `--force` replaces a file that exists.
    """
    path = tmp_path / "taken.yaml"
    path.write_text("mine")

    assert loco("new", "x", "--output", str(path), "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_schema_is_the_schema():
    """
    `schema` prints the JSON schema and nothing else.
    """
    assert json.loads(loco("schema").stdout) == json.loads(json.dumps(recipe_schema()))
