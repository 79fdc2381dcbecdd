"""
Localize every concept of the world and compare the results with the answer key.

    python -m tests.benchmarks.answer_key [--model tiny-plain] [--width auto] [--seeds 4]
        [--output DIR] [--shard 0/2 --threads 1]

A concept counts as found where the chosen range and the key share at least half of their union; it
is clear where that range's score is three standard errors ahead of every range that does not touch
the key. `tiny-plain` has no key: its table shows what the chosen range does, beside all layers.

What `--output` holds already is not measured again, so that two processes can share the work and
a third print it all; other weights need another folder.
"""

import argparse
import json
from pathlib import Path

import torch

from loco_cli.families import registry
from loco_cli.localization import Localization, WindowScore
from loco_cli.localizing.runs import SearchContext
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model, load_scorer
from loco_cli.recipe.load import _slug
from loco_cli.recipe.record import EditEntry, LocalizeSettings
from loco_cli.sampling.sample import choose_batch_size
from tests.benchmarks.world import add_options, chosen_entries
from tests.searches import localize


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


def chosen(found: Localization) -> WindowScore:
    """Return the score of the chosen layers, which need not be the best: a wider range may be."""
    return next(score for score in found.scores if score.layer_set == found.layer_set)


def lead(found: Localization, key: list[int]) -> float:
    """Return by how many standard errors the chosen range is ahead of the next outside the key."""
    mine, sign = chosen(found), 1.0 if found.better == "lower" else -1.0
    outside = [s for s in found.scores if not set(s.layer_set) & set(range(*key))]
    return min(
        sign * (s.score - mine.score) / max((s.stderr**2 + mine.stderr**2) ** 0.5, 1e-9)
        for s in outside
    )


def known_localization(folder: Path | None, model: str, entry: EditEntry) -> Localization | None:
    """Return the localization of a concept in `folder`, or None if there is none yet."""
    path = _path(folder, model, entry) if folder else None
    if path is None or not path.exists():
        return None
    return Localization.model_validate(json.loads(path.read_text()))


def localization_of(
    bench: SearchContext, entry: EditEntry, settings: LocalizeSettings, folder: Path | None
) -> Localization:
    """Return the localization of a concept, made once where there is a folder to keep it."""
    model = bench.located.name
    found = known_localization(folder, model, entry)
    if found is None:
        found = localize(bench, entry, settings).localization
        if folder:
            folder.mkdir(parents=True, exist_ok=True)
            _path(folder, model, entry).write_text(json.dumps(found.to_json(), indent=2))
    assert len(found.seeds) >= settings.seeds, f"{folder} holds {len(found.seeds)} seeds"
    return found


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each concept, and the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--width", type=parse_width, default="auto")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--output", type=Path, help="a folder for every localization")
    args = parser.parse_args(arguments)
    if args.threads:
        torch.set_num_threads(args.threads)
    located, machine = locate(args.model), RunOptions()
    pipeline = load_model(located, machine)
    bench = SearchContext(
        located, pipeline, load_scorer(located, machine), choose_batch_size("auto", pipeline)
    )
    settings = LocalizeSettings(width=args.width, seeds=args.seeds, search="exhaustive")
    keys, judged = key_of(args.model), []
    for entry in chosen_entries(args):
        found, key = localization_of(bench, entry, settings, args.output), keys.get(entry.kind)
        print(line(found, key), flush=True)
        if key:
            judged.append((share(found, key) >= 0.5, lead(found, key) >= 3))
    if judged:
        n = len(judged)
        print(f"found {sum(a for a, _ in judged)} of {n}, clear {sum(b for _, b in judged)} of {n}")


def line(found: Localization, key: list[int] | None) -> str:
    """Return the printed line of one concept."""
    text = (
        f"{found.concept.kind:<7}{found.concept.subject:<36}{found.original_score:6.3f} → "
        f"{chosen(found).score:6.3f} (all {found.target_score:6.3f})  in {found.layer_range} "
        f"effect {found.effect or 0:5.2f}  {found.seconds:5.0f} s"
    )
    if key is None:
        return text
    return f"{text}  key {key} share {share(found, key):.2f} lead {lead(found, key):5.1f}"


def parse_width(text: str) -> int | str:
    """Parse the value of `--width`."""
    return text if text == "auto" else int(text)


def _path(folder: Path, model: str, entry: EditEntry) -> Path:
    return folder / f"{model}-{entry.kind}-{_slug(entry.subject)}.json"


if __name__ == "__main__":
    main()
