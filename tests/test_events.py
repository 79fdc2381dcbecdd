"""What a command reports while it runs."""

from tests.listeners import Heard


def test_ticks_are_added_up():
    """
    Progress begins at nothing and tells the sum of all steps.
    """
    heard = Heard()

    tick = heard.events.ticker("drawing", 6)
    tick(4)
    tick(2)

    assert [(one.stage, one.done, one.total) for one in heard.progressed] == [
        ("drawing", 0, 6),
        ("drawing", 4, 6),
        ("drawing", 6, 6),
    ]
