"""How long it still takes, in words."""

from itertools import count

import pytest

from services.training.service.pace import Pace, in_words


def test_the_median_step_says_how_long_it_takes() -> None:
    """Two seconds a step, but for a slow beginning and one validation."""
    ends = iter([60.0, 62.0, 64.0, 66.0, 68.0, 170.0, 172.0])
    pace = Pace(total=1000, before=400, clock=lambda: next(ends))
    words = [pace.step(n) for n in range(1, 8)]
    assert words[:5] == [""] * 5
    assert words[5:] == [", about 20 min left", ", about 20 min left"]
    assert pace.step_s == 2.0


def test_a_run_too_short_to_measure_has_no_pace() -> None:
    clock = count()
    pace = Pace(10, 0, clock=lambda: float(next(clock)))
    assert pace.step(1) == ""
    assert pace.step_s is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (360000, "100 h"),
    ],
)
def test_times_are_said_as_people_say_them(seconds, words) -> None:
    assert in_words(seconds) == words
