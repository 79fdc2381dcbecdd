"""Bank of everyday prompts."""

from loco_cli.protocol.everyday import N_DRIFT_PROMPTS, _bank, _unrelated_prompts, drift_prompts


def test_the_bank_has_eighty_things_in_four_places():
    """
    The bank has no duplicates, and the prompts for drift cover different things and places.
    """
    few = drift_prompts(())

    assert len(_bank()) == len(set(_bank())) == 320
    assert len(few) == len(set(few)) == N_DRIFT_PROMPTS
    things = {prompt.split(" on ")[0].split(" in ")[0] for prompt in few}
    assert len(things) == N_DRIFT_PROMPTS
    places = [sum(prompt.endswith(end) for prompt in few) for end in ("beach", "street", "snow")]
    assert min(places) >= N_DRIFT_PROMPTS // 8


def test_unrelated_prompts_contain_no_edited_name():
    """
    No unrelated prompt contains a name of the edit as whole words, in any case.
    """
    few = _unrelated_prompts(("Cat", "a car", ""), n=400)

    assert not any(" cat " in prompt or "a car " in prompt for prompt in few)
    assert any("carrot" in prompt for prompt in few)
    assert len(few) == 312
