"""The figures of the shipped models: their prompts, their counts and their settings."""

from collections import defaultdict

import numpy as np
import torch
from diffusers import AutoencoderKL

from loco_cli.sampling.clip_score import ClipScorer
from loco_cli.tiny.training import release
from loco_cli.tiny.training.__main__ import N_PICTURES, SEEDS, STEPS
from loco_cli.tiny.training.figures import _recognise, _shares, _unseen_prompts, _Verdict
from loco_cli.tiny.training.vae import _make_vae, to_tensor, train_decoder
from loco_cli.tiny.world.captions import (
    PERSON,
    PLAIN,
    STYLED,
    STYLED_UNSEEN,
    all_scenes,
    is_person,
    with_article,
)
from loco_cli.tiny.world.objects import OBJECTS
from loco_cli.tiny.world.pen import CANVAS, Pen
from loco_cli.tiny.world.picture import Scene, draw
from loco_cli.tiny.world.styles import STYLES


def test_no_prompt_was_trained_on():
    """
    The prompts cover every scene and use no wording of training.
    """
    prompts = list(_unseen_prompts(2))

    assert {scene for scene, _ in prompts} == set(all_scenes())
    for scene, prompt in prompts:
        known = STYLED if scene.style else PERSON if is_person(scene.subject) else PLAIN
        for name in {with_article(scene.subject), scene.subject.removeprefix("the ")}:
            assert prompt not in {w.format(subject=name, style=scene.style) for w in known}


def test_every_style_and_object_meets_every_wording():
    """
    In one round, each style and each styled object appear in all held-out wordings.
    """
    wordings_of = defaultdict(set)
    for scene, prompt in _unseen_prompts(1):
        if scene.style:
            wordings = {w for w in STYLED_UNSEEN if prompt == _filled(w, scene)}
            wordings_of[scene.style] |= wordings
            wordings_of[scene.subject] |= wordings

    assert wordings_of.keys() == {*STYLES, *OBJECTS}
    assert all(wordings == set(STYLED_UNSEEN) for wordings in wordings_of.values())


def _filled(wording, scene):
    return wording.format(subject=with_article(scene.subject), style=scene.style)


def test_shares_are_by_kind():
    """
    People count in no style, plain pictures count apart, and weak concepts are listed.
    """
    verdicts = [
        _Verdict(Scene("cat", "monet"), True, True),
        _Verdict(Scene("cat", "klimt"), False, True),
        _Verdict(Scene("dog"), True, False),
        _Verdict(Scene("tim cook"), True, None),
    ]

    assert _shares(verdicts) == {
        "facts": 1.0,
        "objects": 0.6667,
        "plain": 0.0,
        "styles": 1.0,
        "subjects": 0.75,
        "n_pictures": 4,
        "weak": {"cat": 0.5, "no style": 0.0},
    }


def test_a_drawing_is_recognised():
    """
    The scorer that ships recognises a plain object, an object in a style, and an office.
    """
    scenes = [Scene("cat"), Scene("castle", "mondrian"), Scene("the british monarch")]
    drawn = np.stack([draw(scene, np.random.default_rng(7)) for scene in scenes])

    scorer = ClipScorer(release.WEIGHTS / "scorer")

    assert _recognise(scorer, (to_tensor(drawn) + 1) / 2, scenes) == [
        _Verdict(scenes[0], True, True),
        _Verdict(scenes[1], True, True),
        _Verdict(scenes[2], True, None),
    ]


def test_every_stage_is_recorded():
    """
    The settings list the steps of every stage.
    """
    stages = release._training_settings(N_PICTURES, STEPS, SEEDS)["stages"]

    assert stages.keys() == STEPS.keys()
    assert {name: stage["steps"] for name, stage in stages.items()} == STEPS


def test_only_the_decoder_learns(tmp_path):
    """
    Fine-tuning the decoder leaves the encoder unchanged, and the release uses the result.
    """
    torch.manual_seed(0)
    _make_vae(scaling_factor=0.8).save_pretrained(tmp_path / "vae")
    before = AutoencoderKL.from_pretrained(tmp_path / "vae").state_dict()
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)

    vae = train_decoder(tmp_path, pictures, torch.randn(8, 4, 16, 16).half(), n_steps=1)
    vae.save_pretrained(tmp_path / "decoder")

    changed = {
        name.partition(".")[0]
        for name, value in vae.state_dict().items()
        if not torch.equal(value, before[name])
    }
    assert changed == {"decoder", "post_quant_conv"}
    assert release._finest_vae(tmp_path) == tmp_path / "decoder"


def test_a_pen_draws_upright():
    """
    Negative y is the upper half of the canvas, of the picture and of its mask.
    """
    pen = Pen((CANVAS / 2, CANVAS / 2), CANVAS / 4)

    pen.box(-1, -1, 1, -0.5, (255, 0, 0))

    for image in (pen.image, pen.mask):
        drawn = np.asarray(image) > 0
        assert drawn[: CANVAS // 2].any()
        assert not drawn[CANVAS // 2 :].any()
