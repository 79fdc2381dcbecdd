"""Diff-QuickFix: its closed form on small models, and edits of `tiny`."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from loco_cli.checkpoint.lora import open_lora
from loco_cli.checkpoint.reader import read_tensor
from loco_cli.commands import edit
from loco_cli.editing.deltas import new_weights
from loco_cli.editing.keys import encode_problem
from loco_cli.editing.methods import solve
from loco_cli.editing.preserve import preserve_set, preserved_prompts
from loco_cli.encoders.encode import CheckpointEncoder
from loco_cli.errors import RequestError
from loco_cli.evaluating.choice import plan_model_edit
from loco_cli.evaluating.judge import edited_pipeline
from loco_cli.interventions import Run
from loco_cli.models.encoders import encoder_of
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, load_model
from loco_cli.models.tokenizers import tokenizers_of
from loco_cli.outputs.paths import EditOptions
from loco_cli.recipe.load import load_recipe
from loco_cli.report.sentences import plan_lines, preview_sentences
from loco_cli.sampling.sample import sample_batch
from loco_cli.sampling.weights import apply_lora, replace_weights
from tests.families.layouts import write_folder
from tests.families.small import small_model
from tests.listeners import RecordingListener

CPU = RunOptions(device="cpu")
STYLE = "{kind: style, subject: van gogh, to: painting}"
OBJECT = "{kind: object, subject: a cat, to: a house}"
PAPER = "tokens: last-subject"
OUT_PROJ = "text_model.encoder.layers.0.self_attn.out_proj"
PROMPTS = ("a castle in the style of van gogh", "a photo of a cat")


def recipe_of(edit="", edits=STYLE, preserve="none", model="tiny"):
    keys = f"{{method: diffquickfix, encoders: all, {edit}}}"
    text = f"loco: 1\nmodel: {model}\nedits: [{edits}]\nedit: {keys}\npreserve: {preserve}\n"
    return load_recipe(text, "r.yaml")


def solved(located, recipe):
    return solve(located, recipe, ((),) * len(recipe.edits), encoder_of(located))


@pytest.fixture(scope="module", params=["sd15", "sd21", "sdxl"])
def relative(request, tmp_path_factory):
    """A small relative of a known model in a folder."""
    root = tmp_path_factory.mktemp("relative") / "model"
    return locate(str(write_folder(root, small_model(request.param), torch.float32)))


@torch.no_grad()
def recorded(located, prompts, weights=None):
    """Record input and output of the first `out_proj` of each encoder, [n, n_tokens, d] each."""
    recorded_states = {}
    kinds = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}
    encoders = located.spec.context.encoders
    for one, tokenizer in zip(encoders, tokenizers_of(located), strict=True):
        module = kinds[one.component].from_pretrained(located.path / one.component).eval()
        core = getattr(module, "text_model", module)
        del core.encoder.layers[1:]
        core.encoder.layers[0].self_attn.out_proj.register_forward_hook(
            lambda _, args, output, key=one.component: recorded_states.update(
                {key: (args[0], output)}
            )
        )
        rows = [list(tokenizer.tokenize(prompt).ids) for prompt in prompts]
        padded = [row + [tokenizer.pad] * (77 - len(row)) for row in rows]
        own = {f"{OUT_PROJ}.weight": weights[one.component]} if weights else {}
        with replace_weights(module, own):
            module(torch.tensor(padded))
    return recorded_states


def positions_of(located, pairs):
    """Yield the positions of each subject's last token and of the matching target word."""
    texts = [text for pair in pairs for text in (pair.source, pair.target)]
    encoded = encoder_of(located).encode(texts, padded=False)
    for pair, source, target in zip(pairs, encoded[::2], encoded[1::2], strict=True):
        here = source.positions_of(pair.subject)[-1]
        yield here, target.end - (source.end - here)


def tensors_of(located, component):
    """Return the weight and the bias of the first `out_proj` in float64."""
    return (
        read_tensor(located.checkpoint.slots(component, f"{OUT_PROJ}.{kind}")[0]).double()
        for kind in ("weight", "bias")
    )


def test_the_paper_form_equals_the_published_formula(relative):
    """
    With `last-subject` and nothing preserved, the change is the paper's formula with the bias added
    once.
    """
    ridge = 0.5
    recipe = recipe_of(f"{PAPER}, ridge: {ridge}")
    pairs = recipe.edits[0].edit_pairs
    places = list(positions_of(relative, pairs))
    sources = recorded(relative, [pair.source for pair in pairs])
    targets = recorded(relative, [pair.target for pair in pairs])

    paper_edit = solved(relative, recipe)

    assert [change.name for change in paper_edit.changes] == [f"{OUT_PROJ}.weight"] * len(sources)
    for change in paper_edit.changes:
        weight, bias = tensors_of(relative, change.component)
        reads, writes = sources[change.component][0], targets[change.component][1]
        k = torch.stack([reads[n, here] for n, (here, _) in enumerate(places)]).double()
        z = torch.stack([writes[n, there] for n, (_, there) in enumerate(places)]).double()
        gram = ridge * torch.eye(k.shape[1], dtype=k.dtype) + k.T @ k
        published = torch.linalg.solve(gram, (ridge * weight + (z - bias).T @ k).T).T
        left, right = change.update.change(weight)
        moved = (published - weight).norm()
        assert moved > 1e-2 * weight.norm()
        assert (weight + left @ right - published).norm() < 1e-5 * moved


def test_the_factored_form_equals_the_formula_in_float64(relative):
    """With all tokens and a preserve set, the factored form equals the published formula."""
    recipe = recipe_of("tokens: all, ridge: 0.1x", preserve="[monet]")
    chosen = preserve_set(relative.spec, recipe, encoder_of(relative))
    kept = preserved_prompts(relative.spec, recipe, chosen)
    parts = encoder_of(relative).parts

    for change, part in zip(solved(relative, recipe).changes, parts, strict=True):
        weight, bias = tensors_of(relative, change.component)
        stopped = replace(
            part, shape=replace(part.shape, states="mixed")
        )  # stops before `out_proj`
        problem = encode_problem(recipe, kept, CheckpointEncoder([stopped]))
        keys, targets = (rows.double() for rows in problem.rows(0))
        stay = torch.cat([one.states for one in problem.preserved.values()]).double()
        ridge = 0.1 * keys.square().sum(1).mean()
        k = torch.cat([keys, stay])
        z = torch.cat([targets, stay]) @ weight.T + bias  # outputs of the base
        gram = ridge * torch.eye(k.shape[1], dtype=k.dtype) + k.T @ k
        published = torch.linalg.solve(gram, (ridge * weight + (z - bias).T @ k).T).T
        left, right = change.update.change(weight)
        torch.testing.assert_close(weight + left @ right, published, rtol=0, atol=1e-9)


def test_the_edited_encoder_maps_the_source_to_the_target(relative):
    """In the edited encoder, the subject gets the state of the target, including the bias."""
    recipe = recipe_of(f"{PAPER}, ridge: 1e-9x")
    pair = recipe.edits[0].edit_pairs[1]
    ((here, there),) = positions_of(relative, [pair])
    made = new_weights(relative, solved(relative, recipe))
    weights = {slot.component: stored for slot, stored, _ in made}

    before = recorded(relative, [pair.source, pair.target])
    after = recorded(relative, [pair.source], weights)

    assert set(weights) == set(before)
    for component, (_, written) in before.items():
        original, expected = written[0, here], written[1, there]
        assert (after[component][1][0, here] - expected).norm() < 1e-2 * (
            original - expected
        ).norm()


def test_unsuitable_models_and_layers_are_refused(tmp_path, golden):
    """A plan refuses layers of the UNet, several encoders by default, T5, and a bare UNet."""
    small = {
        name: write_folder(tmp_path / name, small_model(name), torch.float16)
        for name in ("sd15", "sdxl", "deepfloyd")
    }
    for path, settings in (
        (small["sd15"], "layer_range: [8, 10]"),
        (small["sd15"], "layers: [8]"),
        (small["sd15"], "layer_range: published"),
        (small["sdxl"], "encoders: single"),
        (small["deepfloyd"], ""),
        (small["sd15"] / "unet" / "diffusion_pytorch_model.safetensors", ""),
    ):
        text = f"loco: 1\nedits: [{STYLE}]\nedit: {{method: diffquickfix, {settings}}}\n"
        with golden.raises(RequestError, "`diffquickfix`"):
            plan_model_edit(locate(str(path)), load_recipe(text, "r.yaml"))


def test_the_plan_lists_the_tensors_of_the_encoders(tmp_path, monkeypatch):
    """A plan needs no search, lists both tensors, and has no limits."""
    monkeypatch.chdir(tmp_path)
    root = write_folder(tmp_path / "model", small_model("sdxl"), torch.float16)

    plan = edit.plan(recipe_of(model=root), EditOptions()).document()

    assert (plan.localize, plan.edits[0].layers, plan.limits) == (None, (), ())
    assert plan.tensors == (f"{OUT_PROJ}.weight",) * 2
    words = plan_lines(plan)
    assert "style `van gogh` → `painting`, the text encoder" in words[1]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The edit of `van gogh` in the text encoder of `tiny`, with its preview."""
    options, heard = EditOptions(tmp_path_factory.mktemp("edit") / "edited"), RecordingListener()
    done = edit.run(edit.plan(recipe_of(preserve="auto"), options), CPU, heard.events)
    return done, *heard.previews


def test_the_manifest_has_no_layers(written):
    """The manifest of an encoder edit has no layers; card and report name the text encoder."""
    done, preview = written
    manifest = json.loads(done.paths.manifest.read_text())

    (one,) = manifest["edits"]
    assert (one["method"], one["layer_range"], one["tokens"]) == (
        "diffquickfix",
        None,
        "subject-to-end",
    )
    assert "layers" not in one
    assert one["ridge"] > 0
    assert [tensor["name"] for tensor in manifest["tensors"]] == [f"{OUT_PROJ}.weight"]
    assert manifest["tensors"][0]["file"] == "text_encoder/model.safetensors"
    assert "in the text encoder: " in preview_sentences(preview)[0]
    assert 0 < manifest["drift"]["preserved"] < manifest["drift"]["unrelated"]
    assert "text encoder" in done.paths.card.read_text()
    assert "text encoder" in done.paths.report.read_text()


def test_the_written_folder_equals_the_edit_in_memory(written, tiny, pipeline):
    """The written folder generates the same images as the edit in memory."""

    def pictures(which):
        return sample_batch(which, [Run(p, 3) for p in PROMPTS], steps=2, guidance=4.0)

    before = pictures(pipeline)
    from_file = pictures(load_model(locate(str(written[0].paths.root)), CPU))
    with edited_pipeline(pipeline, tiny, solved(tiny, recipe_of(preserve="auto"))) as edited:
        in_memory = pictures(edited)

    assert torch.equal(from_file, in_memory)
    assert not torch.equal(from_file, before)
    assert torch.equal(pictures(pipeline), before)


def test_the_lora_equals_the_edit_in_memory(tmp_path, tiny, pipeline):
    """The LoRA generates the images of the edit in memory up to the rounding of the file."""
    recipe, runs = recipe_of(preserve="auto"), [Run(PROMPTS[0], 3)]
    options = EditOptions(tmp_path / "lora.safetensors", form="lora")
    lora = open_lora(edit.run(edit.plan(recipe, options), CPU).paths.root, tiny.checkpoint)

    before = sample_batch(pipeline, runs, steps=2, guidance=4.0)
    with edited_pipeline(pipeline, tiny, solved(tiny, recipe)) as edited:
        expected = sample_batch(edited, runs, steps=2, guidance=4.0)
    with apply_lora(pipeline, lora.parts) as edited:
        actual = sample_batch(edited, runs, steps=2, guidance=4.0)

    assert (actual - expected).norm() < 1e-2 * (expected - before).norm()


def test_sdxl_is_edited_with_a_warning(tmp_path):
    """In SDXL both encoders change, with a warning that the papers found no single state."""
    root = write_folder(tmp_path / "model", small_model("sdxl"), torch.float16)

    heard, plan = (
        RecordingListener(),
        edit.plan(recipe_of(model=root), EditOptions(tmp_path / "edited")),
    )
    result = edit.run(plan, CPU, heard.events)

    files = {tensor.file.partition("/")[0] for tensor in result.manifest.tensors}
    assert files == {"text_encoder", "text_encoder_2"}
    assert result.manifest.model.unreachable == ()
    assert any("no single causal state" in warning for warning in heard.warnings)
