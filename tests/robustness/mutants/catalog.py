"""The mutants: realistic bugs, at least two for each room of the package."""

from dataclasses import dataclass
from pathlib import Path

PACKAGE = "loco_cli"


@dataclass(frozen=True)
class Mutant:
    """
    One bug: `Mutant("exit-code", "cli/app.py", "exit(code)", "exit(1)", "the code is always 1")`.

    Args:
        name: The word that selects it on the command line.
        file: The mutated file, relative to the package.
        old: A snippet that occurs exactly once in the file.
        new: The snippet that replaces it.
        fault: The resulting behaviour, for the table.
    """

    name: str
    file: str
    old: str
    new: str
    fault: str

    @property
    def room(self) -> str:
        """The room of the file; the modules at the top of the package are `records`."""
        folder, slash, _ = self.file.partition("/")
        return folder if slash else "records"

    def source(self, root: Path) -> str:
        """Return the mutated source of a checkout; raise ValueError if the snippet is not there."""
        text = (root / PACKAGE / self.file).read_text("utf-8")
        n_found = text.count(self.old)
        if n_found != 1:
            raise ValueError(
                f"mutant `{self.name}`: its snippet occurs {n_found} times in `{self.file}`, not "
                f"once: {self.old!r}"
            )
        return text.replace(self.old, self.new)

    def module_tests(self, root: Path) -> tuple[str, ...]:
        """Return the test file of the mutated module, if there is one."""
        stem = Path(self.file).stem
        paths = (f"tests/{self.room}/test_{stem}.py", f"tests/test_{stem}.py")
        return tuple(path for path in paths if (root / path).exists())

    def room_tests(self, root: Path) -> tuple[str, ...]:
        """Return the other tests of the room; the modules at the top have none in common."""
        paths = (f"tests/{self.room}", f"tests/test_{self.room}.py")
        return tuple(path for path in paths if (root / path).exists())


MUTANTS = (
    Mutant(
        "edit-wrong-sign",
        "editing/ridge.py",
        "Solution(targets.double() - keys.double(), ",
        "Solution(keys.double() - targets.double(), ",
        "keys move away from their targets",
    ),
    Mutant(
        "preserved-rows-dropped",
        "editing/ridge.py",
        "torch.cat([keys, preserved])",
        "torch.cat([keys, preserved[:0]])",
        "preserved keys are not rows of the ridge system",
    ),
    Mutant(
        "last-row-dropped",
        "editing/keys.py",
        'stop = last + 1 if tokens == "last-subject" else len(pair.source)',
        'stop = last + 1 if tokens == "last-subject" else len(pair.source) - 1',
        "the last position of a source prompt is not a key",
    ),
    Mutant(
        "drift-inverted",
        "editing/deltas.py",
        "(sums[0] / sums[1])",
        "(sums[1] / sums[0])",
        "drift is the old answer divided by the change",
    ),
    Mutant(
        "attention-not-causal",
        "encoders/clip.py",
        "is_causal=True",
        "is_causal=False",
        "CLIP tokens attend to later tokens",
    ),
    Mutant(
        "t5-distance-sign",
        "encoders/t5.py",
        "n_side * (ahead > 0)",
        "n_side * (ahead < 0)",
        "T5 confuses tokens before with tokens after",
    ),
    Mutant(
        "encoder-of-any-width",
        "models/locate.py",
        "lender.spec.family == self.spec.family and lender.d_states == self.d_states",
        "lender.spec.family == self.spec.family",
        "a bare UNet borrows encoders of another width",
    ),
    Mutant(
        "scorer-judges",
        "models/session.py",
        '_load_clip(_SHIPPED / "judge", options)',
        '_load_clip(_SHIPPED / "scorer", options)',
        "the scorer that chose an edit also judges it",
    ),
    Mutant(
        "fsync-missing",
        "checkpoint/staging.py",
        "            file.flush()\n            os.fsync(file.fileno())\n",
        "            file.flush()\n",
        "new files are renamed before they are on disk",
    ),
    Mutant(
        "undo-of-wrong-tensor",
        "checkpoint/undo.py",
        "Patch(*output.span(name), self.range(key))",
        "Patch(*output.span(name), self.range(self.tensors(file)[0]))",
        "every tensor is restored from the first one",
    ),
    Mutant(
        "alpha-lost",
        "checkpoint/lora.py",
        "torch.tensor(float(rank))",
        "torch.tensor(1.0)",
        "a LoRA is applied at 1/rank of its strength",
    ),
    Mutant(
        "base-check-skipped",
        "outputs/checkpoint.py",
        "            self._copying.check_unchanged()\n",
        "",
        "a base that changes during the copy is not noticed",
    ),
    Mutant(
        "manifest-first",
        "outputs/checkpoint.py",
        "return (*beside, paths.root, manifest)",
        "return (manifest, *beside, paths.root)",
        "the manifest of a file appears before the weights",
    ),
    Mutant(
        "lora-hash-sign",
        "outputs/lora.py",
        "tensor_bytes(weight + change, slot)",
        "tensor_bytes(weight - change, slot)",
        "the recorded hashes subtract the LoRA from the base",
    ),
    Mutant(
        "block-off-by-one",
        "families/compvis.py",
        'int(found[2]) - (half == "down")',
        "int(found[2])",
        "input blocks of single files are counted from the wrong block",
    ),
    Mutant(
        "fused-q-for-k",
        "families/compvis.py",
        'for part, q in enumerate("qkv")',
        'for part, q in enumerate("kqv")',
        "queries and keys of OpenCLIP are exchanged",
    ),
    Mutant(
        "fused-rows-short",
        "families/names.py",
        "begin + unit * self.shares[self.part]",
        "begin + unit",
        "a fused map with more rows than its neighbours is cut",
    ),
    Mutant(
        "seed-ignored",
        "sampling/sample.py",
        "torch.Generator().manual_seed(seed)",
        "torch.Generator().manual_seed(0)",
        "all pictures start from the noise of seed 0",
    ),
    Mutant(
        "k-for-v",
        "sampling/hooks.py",
        "layer.projections[1].name",
        "layer.projections[0].name",
        "the contribution of tokens masks keys, not values",
    ),
    Mutant(
        "guided-halves-swapped",
        "sampling/conditioning.py",
        "torch.cat([negative, states])",
        "torch.cat([states, negative])",
        "a swapped layer reads its prompt in the unconditional half",
    ),
    Mutant(
        "lead-wrong-sign",
        "localizing/scoreboard.py",
        'sign = -1.0 if self.better == "lower" else 1.0',
        'sign = 1.0 if self.better == "lower" else -1.0',
        "the best window leads where it is behind",
    ),
    Mutant(
        "cache-ignores-model",
        "localizing/cache.py",
        "_digest([self.common_digest, *key])",
        "_digest([*key])",
        "cached runs of one model answer for another",
    ),
    Mutant(
        "indirect-effect-sign",
        "localizing/causal_trace.py",
        "score_of[run] - corrupted[run.prompt, run.seed]",
        "corrupted[run.prompt, run.seed] - score_of[run]",
        "restoring a state counts against it",
    ),
    Mutant(
        "after-is-before",
        "evaluating/judge.py",
        "JudgedImage(before, after, first == 0, second == 0, became)",
        "JudgedImage(before, after, first == 0, first == 0, became)",
        "the picture after an edit is judged by the one before",
    ),
    Mutant(
        "ladder-from-the-far-end",
        "evaluating/ladder.py",
        "ladder[:start][::-1]",
        "ladder[:start]",
        "the gentlest ridge is tried before the next gentler one",
    ),
    Mutant(
        "seeds-shared",
        "protocol/seeds.py",
        "range(_FIRST_EVALUATE_SEED, _FIRST_EVALUATE_SEED + n)",
        "range(n)",
        "an edit is judged on the seeds that chose it",
    ),
    Mutant(
        "drift-prompts-preserved",
        "protocol/everyday.py",
        "but=(*listed, *drift, *judged)",
        "but=(*listed, *judged)",
        "drift is measured on prompts that the edit preserves",
    ),
    Mutant(
        "override-keeps-rival",
        "recipe/load.py",
        "section.pop(excluded[1], None)",
        "section.get(excluded[1], None)",
        "`--layers` does not replace the `layer_range` of a recipe",
    ),
    Mutant(
        "empty-range-accepted",
        "recipe/values.py",
        "if stop <= start:",
        "if stop < start:",
        "`layer_range: [8, 8]` is accepted",
    ),
    Mutant(
        "escape-lost",
        "report/html.py",
        "autoescape=True",
        "autoescape=False",
        "a subject can inject markup into a report",
    ),
    Mutant(
        "bars-from-the-wrong-end",
        "report/chart.py",
        "zero = scale.y(localization.original_score)",
        "zero = scale.y(localization.target_score)",
        "the length of a bar is not the effect",
    ),
    Mutant(
        "pictures-swapped",
        "report/sheet.py",
        "cells.append(Cell(pair.before, ",
        "cells.append(Cell(pair.after, ",
        "a contact sheet shows the edited picture twice",
    ),
    Mutant(
        "base-hash-unchecked",
        "commands/verify.py",
        "elif not is_undone:",
        "elif not is_undone and base is None:",
        "`verify` accepts an output that cannot be undone",
    ),
    Mutant(
        "undo-hash-unchecked",
        "commands/undo.py",
        "made != Digest(record.bytes, record.sha256)",
        "made.n_bytes != record.bytes",
        "`undo` accepts any bytes of the right length",
    ),
    Mutant(
        "exit-code",
        "cli/app.py",
        "sys.exit(failure.exit_code)",
        "sys.exit(1)",
        "a wrong request exits with 1",
    ),
    Mutant(
        "hint-lost",
        "cli/console.py",
        "        if error.hint:\n",
        "        if error.hint and self.is_debug:\n",
        "hints are printed with `--debug` only",
    ),
    Mutant(
        "unjudged-edit-passes",
        "evaluation.py",
        "list(edits.values()) if all(edits.values()) else []",
        "[counted for counted in edits.values() if counted]",
        "an edit without countable pictures does not fail the figure",
    ),
    Mutant(
        "range-off-by-one",
        "layers.py",
        "return self[0], self[-1] + 1",
        "return self[0], self[-1]",
        "documents omit the last layer of a range",
    ),
    Mutant(
        "plain-counts-as-style",
        "tiny/training/figures.py",
        '"plain" if verdict.scene.style is None else "styles"',
        '"styles" if verdict.scene.style is None else "plain"',
        "plain pictures are counted as pictures in a style",
    ),
    Mutant(
        "upside-down",
        "tiny/world/pen.py",
        "self.centre[1] + y * self.radius",
        "self.centre[1] - y * self.radius",
        "the training pictures are upside down",
    ),
)
