"""What options load, and what is refused before a model is."""

from loco_cli.errors import ModelUnavailable, RequestError, UnknownName
from loco_cli.models.locate import locate
from loco_cli.models.session import RunOptions, find_scorer, load_judge, load_scorer

CPU = RunOptions(device="cpu")


def test_a_missing_scorer_is_refused(golden):
    """
    A scorer is a folder or a hub id.
    """
    for name, error in (
        ("nobody", RequestError),
        ("them/theirs", ModelUnavailable),
        ("a b/c", UnknownName),
    ):
        with golden.raises(error, f"`{name}`", "CLIP model"):
            find_scorer(name)


def test_a_scorer_is_found_by_path(tmp_path):
    """
    A folder is taken as it is, whatever is in it.
    """
    assert find_scorer(str(tmp_path)) == tmp_path
    assert find_scorer("tiny").name == "scorer"


def test_no_model_marks_its_own_work(tiny, capfd):
    """
    The judge of `tiny` is another model than its scorer, also where the user names a scorer.
    """
    scorer = load_scorer(tiny, CPU)

    judge = load_judge(tiny, RunOptions(device="cpu", scorer="tiny"), scorer)

    assert judge is not scorer
    assert judge.model.config.to_dict() != scorer.model.config.to_dict()
    assert capfd.readouterr().err == ""


def test_elsewhere_the_judge_is_the_scorer(tmp_path):
    """
    A model that does not ship is judged by its scorer.
    """
    from tests.checkpoints import sd1_weights, write_folder

    other = locate(str(write_folder(tmp_path / "other", sd1_weights())))
    scorer = load_scorer(other, RunOptions(device="cpu", scorer="tiny"))

    assert load_judge(other, CPU, scorer) is scorer
