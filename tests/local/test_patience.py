from services.local.patience import HEALTHY_S, LONGEST_PAUSE_S, Patience


def test_a_child_that_keeps_dying_waits_longer_each_time() -> None:
    patience, now, pauses = Patience(), 0.0, []
    for _ in range(10):
        assert patience.allows(now)
        patience.note_start(now)
        pauses.append(patience.pause_s)
        now += patience.pause_s
    assert pauses[0] == 0  # the first death may be an accident: back at once
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE_S


def test_a_child_that_ran_well_is_started_at_once_again() -> None:
    patience = Patience()
    for now in (0.0, 0.1, 0.7):
        patience.note_start(now)
    assert not patience.allows(1.0)
    later = 0.7 + HEALTHY_S + 1
    patience.note_start(later)
    assert patience.allows(later)
