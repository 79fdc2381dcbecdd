"""The model card of an edited folder: its edits, their layers and their limits."""

import re
from collections.abc import Sequence

from loco_cli.families.spec import ModelSpec
from loco_cli.manifest import EditRecord
from loco_cli.report.sentences import encodable, layer_span, range_words, short_number

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+", re.ASCII)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>&|~$#])")

_LIMITS = (
    "An edit is not a deletion. It changes how some layers respond to prompts that name the "
    "concept; the other weights can still draw it.",
    "Other names for the concept, a learned embedding, a starting image or further training can "
    "bring it back. Do not rely on the edit for safety.",
    "Related concepts may have changed too. `loco evaluate` measures how much was forgotten, "
    "turned into the target and kept.",
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

`verify` checks the folder against the manifest; `undo` restores the base byte for byte."""


def render_card(
    spec: ModelSpec, model: str, title: str | None, records: tuple[EditRecord, ...], version: str
) -> str:
    """
    Render the README.md of an edited folder: front matter for the hub, then prose.

    Args:
        spec: The model, or the known model with the same layers.
        model: Name of the base. Hub id and licence come from `spec` only if it has this name.
        title: Title of the recipe; without one the heading names the model.
        records: The edits, one per concept.
        version: Version of loco.

    Returns:
        Markdown with all text from outside loco escaped.
    """
    name = title or f"{model}, edited"
    kinds = dict.fromkeys(record.kind for record in records)
    in_layers = any(record.layer_set for record in records)
    missed = spec.unreached(is_pooling_edited=any(record.pooled for record in records))
    limits = (*_LIMITS, *map(_sentence, missed if in_layers else ()))
    base = f"{model} ({spec.title})" if model == spec.name else model
    parts = (
        _front_matter(spec, model, tuple(kinds)),
        f"# {_plain(name)}",
        f"This is {_plain(base)}, edited in closed form by loco {_plain(version)}, without "
        "training. Only the tensors in `loco-manifest.json` differ from the base; all others are "
        "identical, byte for byte.",
        "## Edits",
        _edits_table(records),
        "## Edited weights",
        _layers_table(spec, records),
        _USE,
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
    )
    return encodable("\n\n".join(parts) + "\n")


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
            short_number(record.ridge),
            record.tokens or "–",
            str(record.n_keys),
        )
        for record in records
    )
    return "\n".join((head, rule, *(f"| {' | '.join(map(_plain, row))} |" for row in rows)))


def _layers_table(spec: ModelSpec, records: Sequence[EditRecord]) -> str:
    layers = sorted({layer for record in records for layer in record.layer_set})
    if not layers:
        return "The output projection of the first self-attention in each text encoder."
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
            "The key and value projections of these cross-attention layers of the UNet, "
            f"counted from 0 in execution order ({', '.join(ranges)}):",
            "",
            "| layer | module path | concepts |",
            "|---|---|---|",
            *rows,
        )
    )


def _sentence(text: str) -> str:
    return _plain(text if text.endswith(".") else f"{text}.")


def _plain(text: str) -> str:
    """Return foreign text on one line, with the characters that Markdown interprets escaped."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))


def _yaml(text: str) -> str:
    """Return any text as a double-quoted YAML scalar."""
    return '"' + "".join(_yaml_character(character) for character in encodable(text)) + '"'


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if character.isprintable() else f"\\U{ord(character):08x}"
