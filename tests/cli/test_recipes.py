"""`loco recipes` on the command line."""

import json

from loco_cli.recipe.catalog import entries, user_folder
from loco_cli.recipe.load import load_recipe, recipe_schema


def test_list(loco):
    """
    The list has the name, kinds and model of each recipe, within 80 columns.
    """
    result = loco("recipes", "list")

    assert result.exit_code == 0
    assert "remove_style" in result.stdout
    assert "Replace Snoopy" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_list_as_json(loco):
    """
    `loco.recipes/1` has the kinds, model, tags and origin of each recipe.
    """
    document = json.loads(loco("recipes", "list", "--json").stdout)

    assert document["schema"] == "loco.recipes/1"
    entry = next(one for one in document["recipes"] if one["name"] == "many_edits")
    assert entry["kinds"] == ["style", "object", "fact"]
    assert (entry["model"], entry["origin"], entry["problem"]) == ("tiny", "shipped", None)


def test_list_of_shipped_recipes(loco):
    """
    A shipped recipe, read without validation, is listed like its validated record.
    """
    listed = {
        one["name"]: one for one in json.loads(loco("recipes", "list", "--json").stdout)["recipes"]
    }

    assert listed.keys() == {entry.name for entry in entries()}
    for entry in entries():
        recipe, line = entry.load(), listed[entry.name]
        assert (line["title"], line["model"]) == (recipe.title, recipe.model)
        assert line["tags"] == list(recipe.tags)
        assert line["kinds"] == list(dict.fromkeys(edit.kind for edit in recipe.edits))


def test_broken_recipe(loco):
    """
    A recipe that does not load is listed with its problem, escaped.
    """
    user_folder().mkdir(parents=True)
    (user_folder() / "broken.yaml").write_text('loco: 1\n"\\e[2J": 1\nedits: []\n')

    listed = loco("recipes", "list")
    document = json.loads(loco("recipes", "list", "--json").stdout)

    assert listed.exit_code == 0
    assert "\x1b" not in listed.stdout
    assert "your own" in listed.stdout
    broken = next(one for one in document["recipes"] if one["name"] == "broken")
    assert "unknown key" in broken["problem"]
    assert len(document["recipes"]) > 1


def test_show(loco):
    """
    `show` prints the recipe byte for byte.
    """
    result = loco("recipes", "show", "remove_style")

    assert load_recipe(result.stdout, "copy.yaml").text == result.stdout
    assert (
        result.stdout
        == json.loads(loco("recipes", "show", "remove_style", "--json").stdout)["text"]
    )


def test_show_unknown_name(refused):
    """
    An unknown name exits with 2, with a similar name in the hint.
    """
    names = ["remove_stile", "remove_style"]

    refused("recipes", "show", "remove_stile", exit_code=2, names=names)


def test_check(loco):
    """
    `check` prints a valid recipe with all overrides and defaults.
    """
    settings = ("--set", "subject=monet", "--set", "edit.ridge=0.1x")
    result = loco("recipes", "check", "remove_style", *settings)

    checked = load_recipe(result.stdout, "checked.yaml")
    assert checked.concepts[0].subject == "monet"
    assert str(checked.edit.ridge) == "0.1x"


def test_check_as_json(loco):
    """
    `loco.recipe/1` has the text of the recipe, its overrides and its values.
    """
    result = loco("recipes", "check", "remove_style", "--set", "subject=monet", "--json")

    document = json.loads(result.stdout)
    assert document["overrides"] == {"subject": "monet"}
    assert "van gogh" in document["text"]
    assert document["recipe"]["edits"][0]["subject"] == "monet"


def test_check_with_a_typo(refused, tmp_path):
    """
    A typo in a key exits with 2, with file, line, key and hint.
    """
    path = tmp_path / "mine.yaml"
    path.write_text("loco: 1\nedits: [{kind: style, subject: monet}]\nedit: {rigde: 1}\n")

    refused("recipes", "check", path, exit_code=2, names=[f"{path}:3", "edit.rigde"])


def test_new(loco):
    """
    `new` writes a valid recipe to the user's catalog, and prints its path.
    """
    result = loco("recipes", "new", "remove_monet")

    assert result.stdout.strip() == str(user_folder() / "remove_monet.yaml")
    assert loco("recipes", "check", "remove_monet").exit_code == 0


def test_new_with_output(loco, tmp_path):
    """
    With `--output`, the recipe goes there, and its name may be taken.
    """
    path = tmp_path / "x.yaml"

    assert loco("recipes", "new", "remove_style", "--output", str(path)).exit_code == 0
    assert path.read_text().startswith("# remove_style:")


def test_comments_of_a_new_recipe(loco, tmp_path):
    """
    Commands in the comments name the recipe, or its path outside the catalog.
    """
    path = tmp_path / "my recipe.yaml"
    loco("recipes", "new", "mine")
    loco("recipes", "new", "yours", "--output", str(path))

    in_catalog, elsewhere = (p.read_text() for p in (user_folder() / "mine.yaml", path))
    assert "# Run it:    loco edit mine\n" in in_catalog
    assert f"# Run it:    loco edit '{path}'\n" in elsewhere


def test_new_refusals(refused, here):
    """
    A taken or invalid name, an existing file and a missing folder are refused.
    """
    (here / "taken.yaml").write_text("mine")

    for words, name in (
        (["remove_style"], "remove_style"),
        (["../x"], "../x"),
        (["x", "--output", "taken.yaml"], "taken.yaml"),
        (["x", "--output", "no/x.yaml"], "no"),
        (["x", "--output", "taken.yaml/x.yaml"], "taken.yaml"),
    ):
        refused("recipes", "new", *words, exit_code=2, names=[f"`{name}`"])


def test_new_with_force(loco, tmp_path):
    """
    `--force` replaces an existing file.
    """
    path = tmp_path / "taken.yaml"
    path.write_text("mine")

    assert loco("recipes", "new", "x", "--output", str(path), "--force").exit_code == 0
    assert path.read_text() != "mine"


def test_schema(loco):
    """
    `schema` prints only the JSON schema.
    """
    assert json.loads(loco("recipes", "schema").stdout) == json.loads(json.dumps(recipe_schema()))
