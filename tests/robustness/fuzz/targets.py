"""The readers of foreign files, each with honest inputs to begin from."""

import json
import shutil
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from loco_cli.checkpoint.files import _read_indexes, list_files
from loco_cli.checkpoint.header import parse_header, read_header, read_header_bytes
from loco_cli.checkpoint.layout import open_checkpoint
from loco_cli.checkpoint.lora import open_lora
from loco_cli.checkpoint.undo import read_undo
from loco_cli.commands import undo as undoing
from loco_cli.commands import verify
from loco_cli.encoders.sentencepiece import read_piece_model
from loco_cli.encoders.tokenizer import load_tokenizer
from loco_cli.errors import LocoError
from loco_cli.localization import Localization, WindowScore
from loco_cli.localizing.cache import RunCache
from loco_cli.manifest import Manifest
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from loco_cli.outputs.paths import OutputPaths
from loco_cli.recipe.catalog import _shipped_folder
from loco_cli.recipe.load import Override, load_recipe
from tests.checkpoints import sd1_weights, write_folder, write_single_file
from tests.edits import edit

MINIMAL = "loco: 1\nedits:\n  - {kind: style, subject: van gogh}\n"
_LORA = {"lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_k": (16, 12)}


@dataclass(frozen=True)
class Target:
    """
    One reader: `Target("recipe", (b"loco: 1",), read)`.

    Args:
        name: The word that selects it on the command line.
        seeds: Honest inputs.
        read: The reader, which may raise `allowed` and nothing else.
        file: The file that holds the input while it is read.
        render: The content of that file for an input.
        allowed: The errors that refuse an input.
        writes: The folder that the reader may write to.
    """

    name: str
    seeds: tuple[bytes, ...]
    read: Callable[[bytes], object]
    file: Path | None = None
    render: Callable[[bytes], bytes] = bytes
    allowed: tuple[type[Exception], ...] = (LocoError,)
    writes: Path | None = None

    def run(self, content: bytes) -> object:
        """Read one input; raise any error that is not a refusal."""
        with suppress(*self.allowed):
            return self.read(content)
        return None

    def put(self, content: bytes) -> None:
        """Write an input to the file of the reader."""
        if self.file:
            self.file.write_bytes(self.render(content))


def targets(home: Path) -> dict[str, Target]:
    """Return all targets by name; their files are in `home`."""
    weights = sd1_weights()
    file = write_single_file(home / "base.safetensors", weights, metadata={"format": "pt"})
    folder = write_folder(home / "sharded", weights, n_shards=2)
    written = edit(file, home / "out").paths
    known = (
        *_of_weights(home, file),
        _index(folder),
        *_of_recipes(),
        *_of_outputs(home, written),
        *_of_runs(home),
        *_of_tokenizers(home),
        *_of_folders(home),
    )
    return {target.name: target for target in known}


def _of_weights(home: Path, file: Path) -> tuple[Target, ...]:
    head = read_header_bytes(file)[8:].rstrip()
    small = b'{"__metadata__":{"a":"b"},"w":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}'
    lora = _lora_header()
    base = open_checkpoint(file)
    x, y, z = (home / f"{name}.safetensors" for name in "xyz")
    return (
        Target("header", (small, _some(head)), lambda c: parse_header(x, c, len(_sparse(c)))),
        Target("file", (_file(small),), lambda c: read_header(x), x),
        Target("checkpoint", (head, _some(head)), lambda c: open_checkpoint(y), y, _sparse),
        Target("lora", (lora,), lambda c: open_lora(z, base), z, _sparse),
    )


def _index(folder: Path) -> Target:
    index = next((folder / "unet").glob("*.index.json"))
    entries = list_files(folder)
    (mine,) = (entry for entry in entries if entry.source == index)
    others = [entry for entry in entries if entry is not mine]
    text = index.read_bytes()

    def read(content: bytes) -> object:
        return _read_indexes((*others, replace(mine, n_bytes=len(content))))

    tree = json.loads(text)
    few = {"weight_map": dict(list(tree["weight_map"].items())[:3])}
    return Target("index", (json.dumps(few).encode(), text), read, index)


def _of_recipes() -> tuple[Target, ...]:
    recipes = tuple(path.read_bytes() for path in sorted(_shipped_folder().glob("*.yaml")))

    def override(content: bytes) -> object:
        option = content.decode("utf-8", "surrogateescape")
        return load_recipe(MINIMAL, "r.yaml", [Override.parse(option)])

    return (
        Target(
            "recipe",
            (MINIMAL.encode(), *recipes),
            lambda c: load_recipe(c.decode("utf-8", "surrogateescape"), "r.yaml"),
        ),
        Target("override", (b"edit.ridge=0.1", b"edits.0.subject=x", b"edit.layers=[1]"), override),
    )


def _of_outputs(home: Path, written: OutputPaths) -> tuple[Target, ...]:
    manifest = written.manifest.read_bytes()
    whole = written.undo.read_bytes()
    undo = read_header_bytes(written.undo)[8:].rstrip()
    small = home / "u.safetensors"
    text = "utf-8", "surrogateescape"
    before, back = (home / "base.safetensors").read_bytes(), home / "back"
    back.mkdir()

    def restore(content: bytes) -> object:
        try:
            return undoing.run(written.root, back / "base")
        finally:
            for file in back.iterdir():
                assert file.read_bytes() == before
                file.unlink()

    def with_data(content: bytes) -> bytes:
        begin = 8 + int.from_bytes(whole[:8], "little")
        return struct.pack("<Q", len(content)) + content + whole[begin:]

    return (
        Target("manifest", (manifest,), lambda c: Manifest.parse(c.decode(*text), "m.json")),
        Target("verify", (manifest,), lambda c: verify.run(written.root), written.manifest),
        Target("undo file", (undo,), lambda c: read_undo(small), small, _sparse),
        Target("undo", (undo,), restore, written.undo, with_data, writes=back),
    )


def _of_runs(home: Path) -> tuple[Target, ...]:
    cache = RunCache(home / "runs", "common")
    cache.store(None, "run")
    run = b'{"score": 0.5, "png": "iVBORw0KGgo="}'
    file = next(cache.folder.glob("*/*.json"))
    localization = json.dumps(_localization().to_json()).encode()

    def find(content: bytes) -> object:
        cached = cache.find_run(needs_picture=bool(len(content) % 2))
        assert cached is None or abs(cached.score) < float("inf")
        numbers = cache.find_numbers("run", n=3)
        assert numbers is None or all(abs(number) < float("inf") for number in numbers)
        return cached

    def document(content: bytes) -> object:
        try:
            tree = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return Localization.model_validate(tree).to_json()

    return (
        Target("cached run", (run, b"[1.0, 2.0, 3.0]"), find, file),
        Target("localization", (localization,), document, allowed=(ValueError,)),
    )


def _of_tokenizers(home: Path) -> tuple[Target, ...]:
    words = ("<unk>", "a", "▁a", "</s>", "<pad>")
    pieces = home / "spiece.model"
    whole = home / "tokenizer"
    whole.mkdir()
    settings = whole / "tokenizer_config.json"
    (whole / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1}))
    (whole / "merges.txt").write_text("#version: 0.2\n")
    config = {
        "model_max_length": 77,
        "pad_token": "<|endoftext|>",
        "added_tokens_decoder": {"2": {"content": "<x>", "special": True}},
    }
    seeds = (json.dumps(config).encode(),)
    tokens = home / "tokens"
    tokens.mkdir()
    whole_file = tokens / "tokenizer.json"
    text = load_tokenizer(whole, "clip", 77).backend.to_str()

    def load(content: bytes) -> object:
        return load_tokenizer(tokens, "clip", 77).tokenize("a cat by van gogh")

    return (
        Target("tokens", (text.encode(),), load, whole_file),
        Target("pieces", (_piece_model(words),), lambda c: read_piece_model(pieces), pieces),
        Target("tokenizer", seeds, lambda c: load_tokenizer(whole, "clip", 77), settings),
    )


def _of_folders(home: Path) -> tuple[Target, ...]:
    folder = shutil.copytree(locate("tiny").path, home / "tiny")
    config = folder / "text_encoder/config.json"
    located = locate(str(folder))

    def encode(content: bytes) -> object:
        return encoder_of(located).encode(["a cat by van gogh"])

    return (Target("config", (config.read_bytes(),), encode, config),)


def _localization() -> Localization:
    score = WindowScore.of((8, 9), [0.1, 0.2], original=0.3, target=0.1)
    return Localization(
        model={"name": "tiny", "family": "sd1"},
        concept={"kind": "style", "subject": "van gogh", "to": "painting"},
        method="locogen",
        search="fast",
        width=2,
        layer_range=(8, 10),
        effect=score.effect,
        better="lower",
        layers=[{"layer": 8, "module_path": "a"}, {"layer": 9, "module_path": "b"}],
        scores=[score],
        original_score=0.3,
        target_score=0.1,
        prompts=[{"source": "a house by van gogh", "target": "a painting"}],
        seeds=[0],
        steps=20,
        guidance=7.5,
        scorer="tiny",
        unet_evaluations=80,
        seconds=1.5,
        ranking=[0.5, 0.1],
    )


def _file(header: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + bytes(4)


def _sparse(header: bytes) -> bytes:
    """Return a file with this header and zeros as data, up to a megabyte of them."""
    end = 0
    with suppress(ValueError, RecursionError):
        tree = json.loads(header)
        entries = tree.values() if isinstance(tree, dict) else ()
        ends = (_end(entry) for entry in entries)
        end = min(1 << 20, max(0, *ends, 0))
    return struct.pack("<Q", len(header)) + header + bytes(end)


def _end(entry: object) -> int:
    offsets = entry.get("data_offsets") if isinstance(entry, dict) else None
    is_pair = isinstance(offsets, list) and len(offsets) == 2
    return offsets[1] if is_pair and type(offsets[1]) is int else 0


def _some(head: bytes) -> bytes:
    """Return a header with the first four entries of another."""
    tree: Mapping[str, object] = json.loads(head)
    return json.dumps(dict(list(tree.items())[:4])).encode()


def _lora_header() -> bytes:
    tree, begin = {}, 0
    for stem, (d_out, d_in) in _LORA.items():
        shapes = {".lora_down.weight": [2, d_in], ".lora_up.weight": [d_out, 2], ".alpha": []}
        for end, shape in shapes.items():
            n_bytes = 4 * (shape[0] * shape[1] if shape else 1)
            offsets = [begin, begin + n_bytes]
            tree[stem + end] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
            begin += n_bytes
    return json.dumps(tree).encode()


def _piece_model(words: tuple[str, ...]) -> bytes:
    content = b""
    for number, word in enumerate(words):
        kind = {0: 2, 3: 3, 4: 3}.get(number, 1)
        own = b"\x0a" + bytes([len(word.encode())]) + word.encode()
        own += b"\x15" + struct.pack("<f", -number) + b"\x18" + bytes([kind])
        content += b"\x0a" + bytes([len(own)]) + own
    return content
