"""Plans as documents, and what pictures cost."""

from loco_cli.plan import Plan, PlannedEdit, PlannedRuns


def test_guidance_doubles_the_price():
    """
    A guided picture is two samples a step; a guidance of 1 is none.
    """
    assert PlannedRuns.of(3, (20, 7.5)).unet_evaluations == 120
    assert PlannedRuns.of(3, (20, 1.0)).unet_evaluations == 60
    assert PlannedRuns.of(3, (20, 0.0)).n_pictures == 3


def test_a_plan_is_a_document():
    """
    `loco.plan/1` starts with its schema and holds lists and plain values.
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
