"""The cluster's server: waited for while it starts."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("default")


def server(failures: int) -> Any:
    """Return a server whose first health checks fail."""
    return Server(failures)


class Server:
    """Answers the health check after some failures."""

    api_url = "http://prefect:4200/api"

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def api_healthcheck(self) -> Exception | None:
        self.failures -= 1
        return ConnectionError("refused") if self.failures >= 0 else None


def test_a_server_that_starts_later_is_waited_for() -> None:
    from studyflow.orchestration.registration import wait_for_server

    pauses: list[float] = []
    wait_for_server(server(3), 60.0, clock=lambda: 0.0, sleep=pauses.append)

    assert pauses == [2.0, 2.0, 2.0]


def test_a_server_that_never_answers_is_named_with_the_reason() -> None:
    from studyflow.orchestration.registration import wait_for_server

    ticks = iter(range(0, 1000, 10))
    with pytest.raises(TimeoutError, match=r"http://prefect:4200/api does not answer .* refused"):
        wait_for_server(server(999), 60.0, clock=lambda: next(ticks), sleep=lambda _: None)
