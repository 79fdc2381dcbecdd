"""Plans: the document `loco.plan/1` and the cost of pictures."""

from loco_cli.plan import Plan, PlannedEdit, PlannedRuns


def test_guidance_doubles_the_cost():
    """
    A step with guidance above 1 takes two samples, and any other step takes one.
    """
    assert PlannedRuns.of(3, (20, 7.5)).unet_evaluations == 120
    assert PlannedRuns.of(3, (20, 1.0)).unet_evaluations == 60
    assert PlannedRuns.of(3, (20, 0.0)).n_pictures == 3


def test_a_plan_is_a_document():
    """
    `loco.plan/1` begins with its schema, and contains lists and plain values.
    """
    edit = PlannedEdit(
        kind="style",
        subject="monet",
        to="painting",
        layers=(8, 9),
        module_paths=("a.attn2", "b.attn2"),
        source=("a house by monet",),
        target=("a house",),
    )
    plan = Plan(
        command="edit",
        model="tiny",
        family="sd1",
        path="tiny",
        edits=(edit,),
        method="locoedit",
        tensors=("a.attn2.to_k.weight",),
    )

    document = plan.to_json()

    assert next(iter(document.items())) == ("schema", "loco.plan/1")
    assert document["edits"][0]["layers"] == [8, 9]
    assert document["localize"] is None
    assert document["tensors"] == ["a.attn2.to_k.weight"]
