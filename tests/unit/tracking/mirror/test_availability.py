"""Whether a tracker answers, and when to try again."""

from __future__ import annotations

from studyflow.errors import TrackingUnavailable
from studyflow.tracking.mirror.availability import Availability


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def failing(availability: Availability, clock: Clock, times: int) -> list[float]:
    """Return the pauses between failures, each waited for."""
    pauses = []
    for _ in range(times):
        availability.failed(TrackingUnavailable("no answer"))
        pauses.append(availability.seconds_to_wait)
        clock.now += pauses[-1]
    return pauses


def test_pauses_double_to_the_longest_and_begin_anew_after_an_answer() -> None:
    clock = Clock()
    availability = Availability(clock, (1.0, 5.0))
    assert failing(availability, clock, 5) == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert availability.unavailable_since == 100.0
    availability.answered()
    assert not availability.is_unavailable
    assert availability.seconds_to_wait == 0.0
    assert failing(availability, clock, 1) == [1.0]


def test_pauses_stay_short_while_somebody_waits() -> None:
    clock = Clock()
    availability = Availability(clock, (1.0, 60.0))
    availability.n_hurried = 1
    assert failing(availability, clock, 3) == [1.0, 1.0, 1.0]


def test_trying_now_ends_the_pause_and_forgets_a_refusal() -> None:
    availability = Availability(Clock(), (1.0, 60.0))
    availability.failed(TrackingUnavailable("no answer"))
    availability.refusal = "no such scheme"
    availability.try_now()
    assert availability.is_unavailable
    assert availability.seconds_to_wait == 0.0
    assert not availability.refusal


def test_one_trials_pauses_double_too() -> None:
    availability = Availability(Clock(), (1.0, 60.0))
    assert [availability.pause_after(n) for n in (0, 1, 5, 6)] == [1.0, 2.0, 32.0, 60.0]
