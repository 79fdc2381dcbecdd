"""The commands that the faults interrupt: edits of the shipped model, and their undoing."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from loco_cli.models.locate import locate
from tests.single_file import write_single_file_of

EDIT = ("edit", "van gogh style", "--layers", "8", "--quiet")
OTHER_EDIT = ("edit", "monet style", "--layers", "8,9", "--quiet")
FILE, FOLDER = "base.safetensors", "base"


@dataclass(frozen=True)
class Scene:
    """
    One command on one base: `Scene("edit a folder", FOLDER, (*EDIT, ...), finals=("out",))`.

    Args:
        name: Its description.
        base: The name of the base in the working folder.
        command: The arguments of `loco`.
        finals: The names that the command may write.
        before: The arguments of a command that runs first, without a fault.
    """

    name: str
    base: str
    command: tuple[str, ...]
    finals: tuple[str, ...]
    before: tuple[str, ...] = ()

    @property
    def repetition(self) -> tuple[str, ...]:
        """The command that repeats it after a fault, when an output may exist."""
        return self.command if "--force" in self.command else (*self.command, "--force")


def _edit(base: str, out: str, *more: str, words: tuple[str, ...] = EDIT) -> tuple[str, ...]:
    return (*words, "--model", f"./{base}", "--output", out, *more)


_FOLDER_EDIT, _FILE_EDIT = _edit(FOLDER, "out"), _edit(FILE, "out")
SCENES = (
    Scene("edit a folder", FOLDER, _FOLDER_EDIT, ("out",)),
    Scene("edit a file", FILE, _FILE_EDIT, ("out.safetensors",)),
    Scene("edit a file as a LoRA", FILE, _edit(FILE, "out", "--as", "lora"), ("out.safetensors",)),
    Scene(
        "edit a folder over an old output",
        FOLDER,
        _edit(FOLDER, "out", "--force"),
        ("out",),
        before=_edit(FOLDER, "out", words=OTHER_EDIT),
    ),
    Scene(
        "edit a file over an old output",
        FILE,
        _edit(FILE, "out", "--force"),
        ("out.safetensors",),
        before=_edit(FILE, "out", words=OTHER_EDIT),
    ),
    Scene("undo a folder", FOLDER, ("undo", "out", "--output", "back"), ("back",), _FOLDER_EDIT),
    Scene(
        "undo a file",
        FILE,
        ("undo", "out", "--output", "back"),
        ("back.safetensors",),
        _FILE_EDIT,
    ),
)
N_EDITS = 5  # scenes at the beginning that edit


class Bases:
    """The bases, which are made once, and a new working folder with one of them for each fault."""

    def __init__(self, home: Path) -> None:
        self._home = home
        tiny = locate("tiny")
        self._made = {FOLDER: home / "made" / FOLDER, FILE: home / "made" / FILE}
        shutil.copytree(tiny.path, self._made[FOLDER])
        write_single_file_of(tiny.checkpoint, self._made[FILE]).chmod(0o644)
        self._n = 0

    def fresh(self, base: str) -> Path:
        """Return a new folder with a copy of a base only."""
        made, folder = self._made[base], self._next(self._home)
        folder.mkdir()
        if made.is_dir():
            shutil.copytree(made, folder / base)
        else:
            shutil.copy(made, folder / base)
        return folder

    def copy(self, folder: Path, home: Path | None = None) -> Path:
        """Return a copy of a folder."""
        return shutil.copytree(folder, self._next(home or self._home))

    def _next(self, home: Path) -> Path:
        self._n += 1
        return home / f"{self._n}"

    def is_whole(self, path: Path, base: str) -> bool:
        """Return True if `path` holds exactly the files and bytes of a base."""
        return tree_bytes(path) == tree_bytes(self._made[base])


def tree_bytes(root: Path) -> dict[str, bytes]:
    """Return the content of all files under a folder, or of one file, by relative path."""
    paths = [root] if root.is_file() else [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
