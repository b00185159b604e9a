"""Whether another caller came of late is known, and no more than two callers are remembered for it."""

from gateway.admission.recent_callers import RecentCallers


def test_a_caller_is_no_other_to_itself():
    recent = RecentCallers()
    recent.note("a", 0)
    recent.note("a", 1)
    assert not recent.has_other("a", 1)
    assert recent.has_other("b", 1)


def test_another_is_remembered_for_a_minute():
    recent = RecentCallers()
    recent.note("a", 0)
    recent.note("b", 30)
    assert recent.has_other("b", 59)
    assert not recent.has_other("b", 60)
    assert recent.has_other("a", 60)


def test_of_many_callers_one_other_is_enough():
    recent = RecentCallers()
    for number in range(100):
        recent.note(str(number), number)
    assert all(recent.has_other(caller, 100) for caller in ("0", "98", "99"))
    assert len(recent._seen) == 2
