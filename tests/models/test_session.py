"""Scorers and judges."""

from loco_cli.errors import ModelUnavailable, RequestError, UnknownName
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, find_scorer, load_judge, load_scorer

CPU = RunOptions(device="cpu")


def test_a_missing_scorer_is_refused(golden):
    """A scorer is a folder or a hub id."""
    for name, error in (
        ("nobody", RequestError),
        ("them/theirs", ModelUnavailable),
        ("a b/c", UnknownName),
    ):
        with golden.raises(error, f"`{name}`", "CLIP model"):
            find_scorer(name)


def test_a_scorer_can_be_a_path(tmp_path):
    """A scorer is located by the path of its folder."""
    assert find_scorer(str(tmp_path)) == tmp_path
    assert find_scorer("tiny").name == "scorer"


def test_tiny_has_a_separate_judge(tiny, capfd):
    """The judge of `tiny` differs from its scorer, even from a scorer in the options."""
    scorer = load_scorer(tiny, CPU)

    judge = load_judge(tiny, RunOptions(device="cpu", scorer="tiny"), scorer)

    assert judge is not scorer
    assert judge.model.config.to_dict() != scorer.model.config.to_dict()
    assert capfd.readouterr().err == ""


def test_other_models_are_judged_by_their_scorer(tmp_path):
    """The judge of a model that does not ship is its scorer."""
    from tests.checkpoints import sd1_weights, write_folder

    other = locate(str(write_folder(tmp_path / "other", sd1_weights())))
    scorer = load_scorer(other, RunOptions(device="cpu", scorer="tiny"))

    assert load_judge(other, CPU, scorer) is scorer
