"""
The comparison of two runs of `equality.py`: the files compared, and those that differ.

Documents are compared without what is of their run alone, files by their digests.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PAGES = re.compile(r"(\.html|(^|/)README\.md)$")
# an undo file has two names, depending on the version
OLD_UNDO = re.compile(r"loco-undo\.safetensors$|(?<=.)\.undo\.safetensors$")
OF_ITS_RUN = ("seconds", "command", "loco_version")
OPTIONAL = ("plans", "sheets", "words of errors", "printed text")
VERSION_WORDS = re.compile(r"(?<=with loco )[^:]+")
STAMP = ("loco.version", "loco.manifest")
ABSENT = "(nothing)"
N_SHOWN = 4


@dataclass
class Verdict:
    """The records compared between two runs, and the differences, by kind."""

    has_versions: bool  # which differ
    compared: Counter[str] = field(default_factory=Counter)
    unequal: dict[str, list[str]] = field(default_factory=dict)

    def hold(self, kind: str, where: str, one: Any, other: Any) -> None:
        """Hold two values against each other."""
        self.compared[kind] += 1
        found = list(_differences(_settled(one), _settled(other)))
        if found:
            more = f" and {len(found) - N_SHOWN} more" if len(found) > N_SHOWN else ""
            self.unequal.setdefault(kind, []).append(f"{where}: {'; '.join(found[:N_SHOWN])}{more}")

    def hold_case(self, name: str, one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
        """Hold two records of a case against each other: its steps, then its files."""
        self.hold("command lines", name, *([s["words"] for s in r["steps"]] for r in (one, other)))
        for n, (a, b) in enumerate(zip(one["steps"], other["steps"], strict=False)):
            where = f"{name} {n}, `{' '.join(a['words'][:2])}`"
            self.hold("exit codes", where, a["code"], b["code"])
            shown = [_document(step["shown"]) for step in (a, b)]
            is_plan = one["is_plan"] or "--dry-run" in a["words"]
            self._hold_document("plans" if is_plan else None, where, *shown)
            self.hold("words of errors", where, *(_errors(step["said"]) for step in (a, b)))
        is_lora = "lora" in one["steps"][0]["words"]
        files = [{_name(file): c for file, c in r["files"].items()} for r in (one, other)]
        for file in sorted({*files[0], *files[1]}):
            where, pair = f"{name} {file}", [found.get(file) for found in files]
            if None in pair or PAGES.search(file):
                self.hold("files that are there", where, *(found is not None for found in pair))
            elif "document" in pair[0]:
                self._hold_document(None, where, *(found.get("document") for found in pair))
            else:
                self.hold(_kind(file, is_lora), where, *self._cleared(*pair))

    def _hold_document(self, kind: str | None, where: str, one: Any, other: Any) -> None:
        schemas = [str(found.get("schema")) for found in (one, other) if isinstance(found, dict)]
        schema = schemas[0].removeprefix("loco.").partition("/")[0] if schemas else "printed text"
        kind = kind or schema
        if self.has_versions and kind in VERSIONED:
            one, other = map(VERSIONED[kind], (one, other))
        self.hold(kind, where, one, other)

    def _cleared(self, one: dict[str, Any], other: dict[str, Any]) -> tuple[Any, Any]:
        """Return two files' contents without what need not be equal."""
        if not self.has_versions or "tensors" not in one:
            return one, other
        return tuple(
            {
                "tensors": content.get("tensors"),
                "metadata": _without_stamp(content.get("metadata", {})),
            }
            for content in (one, other)
        )


def _of_any_version(manifest: Any) -> Any:
    """Return a manifest without the digests of what bears the version: its output and parent."""
    files = [{"path": file["path"]} for file in manifest["output"]["files"]]
    output = {**manifest["output"], "files": files}
    return {**manifest, "output": output, "base": {**manifest["base"], "parent": None}}


def _without_stamp(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a file, or changes of it, without what bears the version."""
    return {
        key: VERSION_WORDS.sub("", value if isinstance(value, str) else json.dumps(value))
        for key, value in metadata.items()
        if not key.endswith(STAMP)
    }


# how documents are made comparable where versions differ
VERSIONED: Mapping[str, Callable[[Any], Any]] = {
    "manifest": _of_any_version,
    "diff": lambda found: {**found, "metadata": _without_stamp(found["metadata"])},
}


def _document(shown: str) -> Any:
    """Return the output of a command, parsed if it is JSON."""
    try:
        return json.loads(shown)
    except ValueError:
        return shown


def _errors(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith(("error:", "hint:"))]


def _name(file: str) -> str:
    """Return a file's name, an undo file's as the newest version has it."""
    return OLD_UNDO.sub(lambda old: ".loco.undo" if old[0][0] == "." else "loco.undo", file)


def _kind(file: str, is_lora: bool) -> str:
    if file.endswith("loco.undo"):
        return "undo files"
    if file.startswith("restored"):
        return "restored bases"
    if file.endswith("sheet.png"):
        return "sheets"
    if file.endswith(".safetensors"):
        return "LoRAs" if is_lora else "weights"
    return "other files"


def _settled(value: Any) -> Any:
    """Return a document without what is of its run alone, and without the digests of pages."""
    if isinstance(value, dict):
        return {key: _settled(one) for key, one in value.items() if key not in OF_ITS_RUN}
    if isinstance(value, list):
        return [_settled(one) for one in value if not _is_page(one)]
    return _name(value) if isinstance(value, str) else value


def _is_page(value: Any) -> bool:
    return isinstance(value, dict) and bool(PAGES.search(str(value.get("path", ""))))


def _differences(one: Any, other: Any, at: str = "") -> Iterator[str]:
    """Yield every place in which two documents differ, with what is there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in dict.fromkeys([*one, *other]):
            yield from _differences(one.get(key, ABSENT), other.get(key, ABSENT), f"{at}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for n, (a, b) in enumerate(zip(one, other, strict=True)):
            yield from _differences(a, b, f"{at}[{n}]")
    elif one != other or type(one) is not type(other):
        yield f"{at.lstrip('.')} {str(one)[:60]} → {str(other)[:60]}".strip()


def compare(a: Path, b: Path, only: str, *, is_quick: bool) -> bool:
    """Print how two runs compare; return whether all that is required is equal."""
    facts = [json.loads((out / "run.json").read_text()) for out in (a, b)]
    for name in facts[0]:
        if name != "checkout" and facts[0][name] != facts[1].get(name):
            print(f"other {name}: {facts[0][name]} → {facts[1].get(name)}")
    verdict = Verdict(has_versions=facts[0]["version"] != facts[1]["version"])
    expected = [json.loads((out / "expected.json").read_text()) for out in (a, b)]
    for name, is_of_quick in sorted((expected[0] | expected[1]).items()):
        if only in name and (is_of_quick or not is_quick):
            paths = [out / "cases" / f"{name}.json" for out in (a, b)]
            verdict.hold("cases that were run", name, *map(_when_run, paths))
            if all(path.exists() for path in paths):
                verdict.hold_case(name, *(json.loads(path.read_text()) for path in paths))
    return _tell(verdict)


def _when_run(path: Path) -> str:
    return "run" if path.exists() else f"not run in {path}"


def _tell(verdict: Verdict) -> bool:
    """Print a table and every inequality; return whether all that is required is equal."""
    print(f"{'':<24}{'compared':>10}{'unequal':>10}")
    for kind in sorted(verdict.compared, key=lambda kind: (kind in OPTIONAL, kind)):
        note = "  (not required)" if kind in OPTIONAL else ""
        n_unequal = len(verdict.unequal.get(kind, ()))
        print(f"{kind:<24}{verdict.compared[kind]:>10}{n_unequal:>10}{note}")
    for kind, found in verdict.unequal.items():
        print(f"\n{kind}{' (not required)' if kind in OPTIONAL else ''}:")
        print(*(f"  {one}" for one in found), sep="\n")
    is_equal = bool(verdict.compared) and not set(verdict.unequal) - set(OPTIONAL)
    print(f"\n{'equal' if is_equal else 'NOT EQUAL'}")
    return is_equal
