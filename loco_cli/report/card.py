"""The model card of an edited folder: what it is, what was edited where, and what that is not."""

import re
from collections.abc import Sequence

from loco_cli.families.spec import ModelSpec
from loco_cli.manifest import EditRecord
from loco_cli.report.sentences import layer_span, range_words, small, writable

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>&|~$#])")

_LIMITS = (
    "An edit is not deletion. It changes what some layers answer to prompts that name the concept; "
    "the weights that it left alone can still draw it.",
    "Other words for the same thing, a learned embedding, a picture to start from, or further "
    "training can bring it back. Do not rely on it for safety.",
    "What lies near the concept may have moved too. `loco evaluate` measures what was forgotten, "
    "what it became and what was kept.",
)

_USE = """\
## Use

```python
from diffusers import DiffusionPipeline

pipe = DiffusionPipeline.from_pretrained("path/to/this/folder")
```

## Check and undo

`loco-manifest.json` lists every file and every changed tensor with its hash,
`loco-recipe.yaml` is the recipe, `loco-undo.safetensors` holds the original weights,
and `loco-report.html` shows the edit.

```sh
loco verify path/to/this/folder
loco undo path/to/this/folder --output path/to/the/base
```

`verify` holds the folder against the manifest; `undo` gives back the base, byte for byte."""


def render_card(
    spec: ModelSpec, model: str, title: str | None, records: tuple[EditRecord, ...], version: str
) -> str:
    """
    Return the README.md of an edited folder: front matter for the hub, then prose.

    `model` is what the base is called; hub id and licence are those of `spec` only where that is
    the very model, not another of its shape.
    """
    name = title or f"{model}, edited"
    kinds = dict.fromkeys(record.kind for record in records)
    in_layers = any(record.layer_set for record in records)
    missed = spec.unreached(is_pooling_edited=any(record.pooled for record in records))
    limits = (*_LIMITS, *map(_sentence, missed if in_layers else ()))
    called = f"{model} ({spec.title})" if model == spec.name else model
    parts = (
        _front_matter(spec, model, tuple(kinds)),
        f"# {_plain(name)}",
        f"This is {_plain(called)} after a closed-form edit by loco {_plain(version)}. "
        "Nothing was trained: only the tensors named below differ from the base's, "
        "every other one is the same, byte for byte.",
        "## What was edited",
        _edits_table(records),
        "## Where",
        _layers_table(spec, records),
        _USE,
        "## What it cannot do",
        "\n".join(f"- {limit}" for limit in limits),
    )
    return writable("\n\n".join(parts) + "\n")


def _front_matter(spec: ModelSpec, model: str, kinds: Sequence[str]) -> str:
    is_this_model = model == spec.name
    hub_id = spec.hub_id if is_this_model else model if _HUB_ID.fullmatch(model) else None
    lines = ["---"]
    if hub_id:
        lines += [f"base_model: {_yaml(hub_id)}", "base_model_relation: finetune"]
    lines += ["library_name: diffusers", "pipeline_tag: text-to-image"]
    if is_this_model and spec.licence:
        lines.append(f"license: {_yaml(spec.licence.lower())}")
    tags = ("loco", "concept-editing", *(f"concept-editing-{kind}" for kind in kinds))
    return "\n".join((*lines, "tags:", *(f"- {_yaml(tag)}" for tag in tags), "---"))


def _edits_table(records: Sequence[EditRecord]) -> str:
    head = "| kind | from | to | method | layers | ridge λ | tokens | keys |"
    rule = "|---|---|---|---|---|---|---|---|"
    rows = (
        (
            record.kind,
            record.subject,
            record.to or "the empty prompt",
            record.method,
            layer_span(record.layer_set) if record.layer_set else "text encoder",
            small(record.ridge),
            record.tokens or "–",
            str(record.n_keys),
        )
        for record in records
    )
    return "\n".join((head, rule, *(f"| {' | '.join(map(_plain, row))} |" for row in rows)))


def _layers_table(spec: ModelSpec, records: Sequence[EditRecord]) -> str:
    layers = sorted({layer for record in records for layer in record.layer_set})
    if not layers:
        return "In the output projection of each text encoder's first self-attention."
    concepts_in = {
        layer: dict.fromkeys(record.subject for record in records if layer in record.layer_set)
        for layer in layers
    }
    rows = (
        f"| {layer} | `{spec.layers[layer].module_path}` | {', '.join(map(_plain, concepts))} |"
        for layer, concepts in concepts_in.items()
    )
    ranges = dict.fromkeys(
        f"`{range_words(record.layer_set)}`" for record in records if record.layer_set
    )
    return "\n".join(
        (
            "In the key and value projections of these cross-attention layers of the UNet, "
            f"counted from 0 in the order in which they run ({', '.join(ranges)}):",
            "",
            "| layer | module path | of |",
            "|---|---|---|",
            *rows,
        )
    )


def _sentence(text: str) -> str:
    return _plain(text if text.endswith(".") else f"{text}.")


def _plain(text: str) -> str:
    """Return foreign text on one line, so that Markdown takes it for nothing but text."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _yaml(text: str) -> str:
    """Return text as a double-quoted YAML scalar, whatever is in it."""
    return '"' + "".join(_yaml_letter(letter) for letter in writable(text)) + '"'


def _yaml_letter(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else f"\\U{ord(letter):08x}"
