"""
Localize every concept of the world and hold the result against the answer key.

    python -m tests.benchmarks.answer_key [--model tiny-plain] [--width 2] [--seeds 4]

A concept counts as found where the best range and the key share at least half of their union; it
is clear where its score is three standard errors ahead of every range that does not touch the key.
`tiny-plain` has no key: its table shows what the best range does, beside all layers.
"""

import argparse
import json
from pathlib import Path

from loco_cli.localization import Localization
from loco_cli.models import registry
from loco_cli.recipe import LocalizeSettings
from loco_cli.runtime.sample import choose_batch_size
from loco_cli.workflows.locate import locate
from loco_cli.workflows.machine import Machine, load_model, load_scorer
from loco_cli.workflows.sweep import Bench, localize
from tests.benchmarks.world import entries


def key_of(model: str) -> dict[str, list[int]]:
    """Return the layer ranges of the answer key by kind, none for a model without a plant."""
    if model != "tiny":
        return {}
    folder = registry.shipped_folder(registry.get("tiny"))
    assert folder is not None
    return json.loads((folder.parent / "answer_key.json").read_text())["layer_ranges"]


def share(found: Localization, key: list[int]) -> float:
    """Return intersection over union of the found layers with the key's."""
    mine, theirs = set(found.layer_set), set(range(*key))
    return len(mine & theirs) / len(mine | theirs)


def lead(found: Localization, key: list[int]) -> float:
    """Return by how many standard errors the best range is ahead of the nearest outside the key."""
    best, sign = found.best(), 1.0 if found.better == "lower" else -1.0
    outside = [s for s in found.scores if not set(s.layer_set) & set(range(*key))]
    return min(
        sign * (s.score - best.score) / max((s.stderr**2 + best.stderr**2) ** 0.5, 1e-9)
        for s in outside
    )


def main() -> None:
    """Print a line for each concept, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--width", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--kind", action="append", help="only these kinds")
    parser.add_argument("--output", type=Path, help="a folder for every localization.json")
    args = parser.parse_args()
    located, machine = locate(args.model), Machine()
    pipeline = load_model(located, machine)
    bench = Bench(
        located, pipeline, load_scorer(located, machine), choose_batch_size("auto", pipeline)
    )
    settings = LocalizeSettings(width=args.width, seeds=args.seeds, search="exhaustive")
    keys, found_of = key_of(args.model), []
    for entry in entries(tuple(args.kind or ("style", "object", "fact"))):
        found = localize(bench, entry, settings).localization
        print(line(found, keys.get(entry.kind)), flush=True)
        found_of.append((found, keys.get(entry.kind)))
        if args.output:
            args.output.mkdir(exist_ok=True)
            path = args.output / f"{entry.kind}-{entry.subject.replace(' ', '-')}.json"
            path.write_text(json.dumps(found.to_json(), indent=2))
    judged = [(share(f, key) >= 0.5, lead(f, key) >= 3) for f, key in found_of if key]
    if judged:
        n = len(judged)
        print(f"found {sum(a for a, _ in judged)} of {n}, clear {sum(b for _, b in judged)} of {n}")


def line(found: Localization, key: list[int] | None) -> str:
    """Return what is printed of one concept."""
    text = (
        f"{found.concept.kind:<7}{found.concept.subject:<36}{found.original_score:6.3f} → "
        f"{found.best().score:6.3f} (all {found.target_score:6.3f})  best {found.layer_range} "
        f"effect {found.effect or 0:5.2f}  {found.seconds:5.0f} s"
    )
    if key is None:
        return text
    return f"{text}  key {key} share {share(found, key):.2f} lead {lead(found, key):5.1f}"


if __name__ == "__main__":
    main()
