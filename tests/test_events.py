"""Reports of a running command."""

from tests.listeners import RecordingListener


def test_progress_counts_all_steps():
    """
    Progress begins at 0 and reports the total of all steps.
    """
    heard = RecordingListener()

    tick = heard.events.ticker("drawing", 6)
    tick(4)
    tick(2)

    assert [(one.stage, one.done, one.total) for one in heard.progressed] == [
        ("drawing", 0, 6),
        ("drawing", 4, 6),
        ("drawing", 6, 6),
    ]
