"""
The inputs and the command lines of `equality.py`.

Inputs are built once, by the builders of the tests, which move with the package; a case is words of
command lines and names of files, and knows nothing of either. In a word `{inputs}` stands for the
folder of the inputs.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

Step = tuple[str, ...]

LISTING = "inputs.json"
IN_TINY = ("--layer-range", "4", "10")  # objects, facts and styles
FEW = ("--seeds", "1", "--steps", "2", "--scorer", "tiny")  # for models with random weights
STYLE = {
    "loco": 1,
    "title": "Remove a style",
    "edits": [
        {
            "kind": "style",
            "subject": "van gogh",
            "to": "painting",
            "source": ["{subject}", "a house in the style of {subject}"],
            "target": ["{to}", "a house"],
        }
    ],
    "preserve": ["monet", "a photo of a cat"],
}
METHODS: dict[str, Step] = {
    "locoedit": (),
    "diffquickfix": ("--method", "diffquickfix", "--set", "edit.encoders=all"),
    "neurons": ("--method", "neurons", "--neurons", "3"),
}
# edits of `tiny` that no shipped recipe covers
VARIANTS: dict[str, Step] = {
    "no-stamp": ("van gogh style", *IN_TINY, "--no-stamp"),
    "set": ("van gogh style", "--layers", "1-3,10,11"),
    "all-tokens": ("snoopy", "--to", "a dog", *IN_TINY, "--set", "edit.tokens=all"),
    "ridge": ("a truck object", *IN_TINY, "--ridge", "0.03x", "--save-recipe", "saved.yaml"),
    "aliases": ("van gogh style", *IN_TINY, "--set", "aliases=[vincent, the dutchman]"),
    "neurons": ("van gogh style", *IN_TINY, "--method", "neurons", "--neurons", "8"),
    "neurons-last": ("snoopy", *IN_TINY, "--method", "neurons", "--set", "edit.position=last"),
    "neurons-found": ("snoopy", "--method", "neurons"),
    "diffquickfix": ("r2d2", "--to", "a robot", "--method", "diffquickfix", "--ridge", "1x"),
    "fact": ("the british monarch fact", "--to", "king charles", *IN_TINY),
    "measured": ("monet style", *IN_TINY, "--set", "edit.strength=measured"),
    "contribution": ("monet style", "--set", "localize.method=contribution"),
    "plain-style": ("remove_style", "--model", "tiny-plain"),
    "plain-object": ("replace_object", "--model", "tiny-plain", "--set", "localize.effect=0.5"),
    "paper": (
        *("monet style", *IN_TINY, "--ridge", "0.01"),
        *("--set", "edit.tokens=last-subject", "--set", "preserve=none"),
    ),
    "null-space": (
        *("monet style", *IN_TINY, "--set", "preserve=[a cat]"),
        *("--set", "edit.preserve_form=null-space"),
    ),
    "measured-encoder": (
        *("klimt style", "--method", "diffquickfix", "--set", "edit.strength=measured"),
    ),
}
# with few seeds and steps where no other number comes of more
LOCALIZATIONS: dict[str, Step] = {
    "style": ("van gogh style",),
    "object": ("snoopy", "--seeds", "2"),
    "fact": ("the british monarch fact", "--to", "king charles", "--seeds", "2"),
    "several": ("many_edits", "--seeds", "1"),
    "exhaustive": ("van gogh style", "--search", "exhaustive", "--width", "2", "--seeds", "2"),
    "width": ("monet style", "--width", "3", "--seeds", "2"),
    "contribution": ("van gogh style", "--method", "contribution", "--seeds", "2"),
    "neurons": ("van gogh style", "--method", "neurons", "--layers", "8,9", "--seeds", "2"),
    "neurons-found": ("snoopy", "--method", "neurons", "--neurons", "8", "--seeds", "1"),
    "set": ("van gogh style", "--window", "set", "--seeds", "2"),
    "named": ("van gogh style", "--layers", "8,9", "--seeds", "2"),
    "bfloat16": ("r2d2", "--seeds", "1", "--steps", "4", "--dtype", "bfloat16"),
    "batches": ("r2d2", "--seeds", "1", "--steps", "4", "--batch-size", "3"),
    "plain": ("van gogh style", "--model", "tiny-plain", "--window", "set", "--seeds", "1"),
    "prompts": (
        *("van gogh style", "--prompt", "a boat by {subject}", "--target", "a {to}"),
        *("--steps", "5", "--guidance", "3", "--no-cache"),
    ),
    "traced-encoder": ("monet style", "--method", "causal-trace", "--noise", "10", "--seeds", "1"),
    "traced-unet": (
        *("monet style", "--method", "causal-trace", "--component", "unet"),
        *("--noise", "10", "--seeds", "1", "--steps", "5"),
    ),
}
# a recipe, how it is edited (None: in memory), how it is evaluated
EVALUATIONS: dict[str, tuple[str, Step | None, Step]] = {
    "object": ("replace_object", IN_TINY, ("--seeds", "1")),
    "fact": ("update_fact", IN_TINY, ("--seeds", "1", "--set", "evaluate.keep=[a big horse]")),
    "several": ("many_edits", IN_TINY, ("--seeds", "1")),
    "encoder": ("remove_style_text_encoder", (), ("--seeds", "1", "--guidance", "3")),
    "lora": ("swap_style", (*IN_TINY, "--as", "lora"), ("--seeds", "1")),
    "memory": ("update_ceo", None, (*IN_TINY, "--seeds", "1")),
    "found": ("remove_object", None, ("--seeds", "1")),
    "plain": ("remove_style", None, ("--base", "tiny-plain", *IN_TINY, "--seeds", "1")),
    "seeds": ("remove_style", IN_TINY, ("--fail-under", "kept=1")),
    "held": (
        *("replace_robot", None),
        (*IN_TINY, "--seeds", "1", "--set", "edit.method=neurons", "--set", "edit.hold=inference"),
    ),
}


@dataclass(frozen=True)
class Case:
    """
    Command lines for an empty folder, one after another: `Case("tiny/x", (("edit", ...),))`.

    `home` is the configuration that tells where models are. Nobody requires that plans be equal.
    """

    name: str
    steps: tuple[Step, ...]
    is_quick: bool = False
    home: str = "none"
    is_plan: bool = False


@dataclass(frozen=True)
class Cell:
    """A small family in a layout: where it lies under the inputs, and the layers to edit."""

    model: str
    family: str
    layout: str
    path: str
    layers: tuple[int, int]

    @property
    def place(self) -> str:
        """The model's path as a command line has it."""
        return f"{{inputs}}/{self.path}"

    @property
    def where(self) -> Step:
        """The options that name the layers."""
        return ("--layer-range", *map(str, self.layers))


def build(root: Path) -> None:
    """Write every small family in every layout, recipes, and where each model's parts are."""
    from tests.families.layouts import F16, write_folder
    from tests.families.small import small_model
    from tests.families.test_matrix import CELLS, LAYERS, LAYOUTS

    cells = []
    for name, layout in CELLS:
        model, folder = small_model(name), root / name / layout.replace(" ", "-")
        folder.mkdir(parents=True)
        path = LAYOUTS[name][layout].write(folder, model).relative_to(root).as_posix()
        cells.append(Cell(name, model.family, folder.name, path, LAYERS[model.family]))
    for name in {cell.model for cell in cells}:
        companion = write_folder(root / "companions" / name, small_model(name), F16)
        (root / "homes" / name / "loco").mkdir(parents=True)
        (root / "homes" / name / "loco" / "models.yaml").write_text(f"{name}: {companion}\n")
    _build_others(root)
    (root / "style.yaml").write_text(json.dumps(STYLE, indent=1) + "\n")
    (root / LISTING).write_text(json.dumps([asdict(cell) for cell in cells], indent=1) + "\n")


def _build_others(root: Path) -> None:
    """Write the trained IF, `tiny` as a file, and a copy of the shipped recipes."""
    from tests.edits import open_checkpoint
    from tests.single_file import write_single_file_of

    package = find_spec("loco_cli")
    assert package
    assert package.origin
    tree = Path(package.origin).parents[1]
    shutil.copytree(tree / "tests" / "deepfloyd" / "model", root / "trained-if")
    tiny = open_checkpoint(tree / "loco_cli" / "tiny" / "weights" / "tiny")
    write_single_file_of(tiny, root / "tiny.safetensors")
    shutil.copytree(tree / "recipes", root / "recipes")


def all_cases(inputs: Path) -> list[Case]:
    """Return every case, the quick ones first: a cache that is shared then fills in one order."""
    cells = [
        Cell(**{**one, "layers": tuple(one["layers"])})
        for one in json.loads((inputs / LISTING).read_text())
    ]
    recipes = {path.stem: path.read_text() for path in sorted((inputs / "recipes").iterdir())}
    found = [
        *_of_recipes(recipes, cells),
        *_of_variants(),
        *(case for cell in cells for case in _of_cell(cell)),
        *_of_localizations(cells),
        *_of_evaluations(cells),
        *_of_plans(list(recipes), cells),
    ]
    assert len({case.name for case in found}) == len(found)
    return sorted(found, key=lambda case: not case.is_quick)


def _edit(recipe: str, base: str, *how: str) -> tuple[Step, ...]:
    """Return an edit, and what is asked of every output."""
    ending = ".safetensors" if base.endswith(".safetensors") else ""
    out, restored = f"out{ending}", f"restored{ending}"
    return (
        ("edit", recipe, *_model(base), *how, "--output", out, "--json"),
        ("verify", out, "--json"),
        ("diff", base, out, "--json"),
        ("undo", out, "--output", restored, "--json"),
    )


def _lora(recipe: str, base: str, *how: str) -> tuple[Step, ...]:
    """Return an edit that is written as a LoRA; what cannot be asked of one ends with its code."""
    out = "out.safetensors"
    return (
        ("edit", recipe, *_model(base), *how, "--as", "lora", "--output", out, "--json"),
        ("verify", out, "--json"),
        ("diff", base, out, "--json"),
        ("undo", out, "--output", "restored", "--json"),
    )


def _model(base: str) -> Step:
    return () if base == "tiny" else ("--model", base)


def _of_recipes(recipes: dict[str, str], cells: Iterable[Cell]) -> Iterator[Case]:
    """Yield every shipped recipe on `tiny`, and those of other models on small ones too."""
    folders = {cell.model: cell for cell in cells if cell.layout == "folder"}
    for name, text in recipes.items():
        where = () if "diffquickfix" in text else IN_TINY
        if "model: tiny\n" not in text:
            where = ("--model", "tiny", *where)
        yield Case(f"recipes/{name}/named", _edit(name, "tiny", *where), is_quick=True)
        yield Case(f"recipes/{name}/named-lora", _lora(name, "tiny", *where), is_quick=True)
        if "model: tiny\n" in text:
            yield Case(f"recipes/{name}/found", _edit(name, "tiny"))
            yield Case(f"recipes/{name}/found-lora", _lora(name, "tiny"))
        else:
            cell = folders["sdxl" if "sdxl" in name else "sd15"]
            yield Case(f"recipes/{name}/small", _edit(name, cell.place, *cell.where))
            yield Case(f"recipes/{name}/small-lora", _lora(name, cell.place, *cell.where))


def _of_variants() -> Iterator[Case]:
    """Yield edits that no shipped recipe makes, on `tiny`, a file of it, and the trained IF."""
    for name, (recipe, *how) in VARIANTS.items():
        base = "tiny-plain" if "tiny-plain" in how else "tiny"
        how = [word for word in how if word not in ("--model", "tiny-plain")]
        yield Case(f"variants/{name}", _edit(recipe, base, *how))
        yield Case(f"variants/{name}-lora", _lora(recipe, base, *how))
    # no stamp, which would bring the version into the base of the second
    first = ("edit", "van gogh style", *IN_TINY, "--no-stamp", "--output", "first")
    yield Case("variants/edit-of-an-edit", (first, *_edit("r2d2", "./first", *IN_TINY)))
    path = "{inputs}/tiny.safetensors"
    yield Case("variants/tiny-file", _edit("many_edits", path, *IN_TINY))
    yield Case("variants/tiny-file-encoder", _edit("remove_style_text_encoder", path))
    path = "{inputs}/trained-if"
    for pooled in ("false", "true"):
        how = ["--layer-range", "0", "22", "--set", f"edit.pooled={pooled}"]
        yield Case(f"variants/if-pooled-{pooled}", _edit("van gogh style", path, *how))
        yield Case(f"variants/if-pooled-{pooled}-lora", _lora("van gogh style", path, *how))
    picture = ("--seeds", "2", "--output", "picture.png")
    yield Case("variants/generate", (("generate", "a photo of snoopy", "a car", *picture),))


def _of_cell(cell: Cell) -> Iterator[Case]:
    """Yield an edit of a small family in a layout by every method, in both forms."""
    for method, how in METHODS.items():
        where = () if method == "diffquickfix" else cell.where
        asked = ("{inputs}/style.yaml", cell.place, *where, *how)
        name, is_first = f"families/{cell.model}/{cell.layout}/{method}", method == "locoedit"
        yield Case(name, _edit(*asked), is_quick=is_first, home=cell.model)
        yield Case(f"{name}-lora", _lora(*asked), home=cell.model)


def _of_localizations(cells: Iterable[Cell]) -> Iterator[Case]:
    """Yield localizations by every method, and of small families in every plain layout."""
    for name, how in LOCALIZATIONS.items():
        step = ("localize", *how, "--output", "found", "--json")
        yield Case(f"localize/{name}", (step,), is_quick=name == "style")
    for cell in cells:
        if cell.layout in ("folder", "file", "unet"):
            asked = ("localize", "van gogh style", "--model", cell.place, *FEW, "--json")
            name = f"localize/{cell.model}-{cell.layout}"
            yield Case(name, (asked, (*asked, "--pooled")), home=cell.model)
    traced = ("--method", "causal-trace", *FEW, "--json")
    path = "{inputs}/trained-if"
    steps = [("localize", "snoopy", "--model", path, *more) for more in (traced, (*FEW, "--json"))]
    yield Case("localize/trained-if", tuple(steps))


def _of_evaluations(cells: Iterable[Cell]) -> Iterator[Case]:
    """Yield evaluations of edits that were written and of edits in memory."""
    written = ("--output", "judged", "--json")
    quick = ("evaluate", "remove_style", *IN_TINY, "--seeds", "1", "--steps", "8", *written)
    yield Case("evaluate/quick", (quick,), is_quick=True)
    for name, (recipe, edit, how) in EVALUATIONS.items():
        steps: tuple[Step, ...] = (("evaluate", recipe, *how, *written),)
        if edit is not None:
            edited = ("--edited", "out.safetensors" if "lora" in edit else "out")
            steps = (("edit", recipe, *edit, "--output", edited[1]), (*steps[0], *edited))
        yield Case(f"evaluate/{name}", steps)
    for cell in cells:
        if cell.layout == "folder":
            how = ("--model", cell.place, *cell.where, *FEW)
            step = ("evaluate", "{inputs}/style.yaml", *how, *written)
            yield Case(f"evaluate/{cell.model}", (step,))


def _of_plans(recipes: list[str], cells: Iterable[Cell]) -> Iterator[Case]:
    """Yield what is told without work: plans, models and recipes."""

    def plan(name: str, steps: Iterable[Step], **more: Any) -> Case:
        told = tuple((*step, "--json") for step in steps)
        return Case(f"plans/{name}", told, is_plan=True, **more)

    dry = ("--model", "tiny", "--dry-run")
    yield plan("edit", [("edit", name, *dry) for name in recipes], is_quick=True)
    yield plan("lora", [("edit", name, *dry, "--as", "lora") for name in recipes])
    yield plan("evaluate", [("evaluate", name, *dry) for name in recipes])
    yield plan("localize", [("localize", *how, "--dry-run") for how in LOCALIZATIONS.values()])
    shown = [("recipes", verb, name) for verb in ("show", "check") for name in recipes]
    yield plan("recipes", [("recipes", "list"), ("recipes", "schema"), *shown])
    yield plan("models-here", [("models", "list"), ("models", "show", "tiny")], is_quick=True)
    names = dict.fromkeys(["tiny-plain", *(cell.model for cell in cells)])
    yield plan("models", [("models", "show", name) for name in names])
    yield plan("small", [("models", "show", cell.place) for cell in cells])
