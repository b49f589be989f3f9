"""A server that is away when a study is done."""

from __future__ import annotations

import logging

import pytest

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.fault("F36")
def test_a_server_that_is_back_in_time_is_waited_for_and_another_is_not() -> None:
    from studyflow.orchestration.outages import wait_for_server

    said: list[str] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    def wait(back_at: float) -> bool:
        now[0] = 0.0
        return wait_for_server(
            said.append, 60.0, is_away=lambda: now[0] < back_at, clock=lambda: now[0], sleep=sleep
        )

    assert wait(0.0)
    assert said == []
    assert wait(30.0)
    assert not wait(1000.0)
    waiting = (
        "The study is done. Prefect's server does not answer; waiting for it up to 1 min to show "
        "this on its page."
    )
    assert said == [waiting, "Prefect's server is back after 30 s.", waiting]


def test_what_fails_on_a_page_is_told_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    from studyflow.orchestration.outages import tolerated

    def publish() -> None:
        raise ValueError("no such artifact")

    with tolerated(logging.getLogger("flow"), "Could not publish"):
        publish()

    assert "Could not publish: no such artifact" in caplog.text


@pytest.mark.parametrize("told", [KeyboardInterrupt, SystemExit])
def test_who_is_told_to_end_ends_there_too(told: type[BaseException]) -> None:
    from studyflow.orchestration.outages import tolerated

    with (
        pytest.raises(told),
        tolerated(logging.getLogger("flow"), "Could not publish"),
    ):
        raise told


def test_prefect_s_complaint_about_each_event_is_left_out_and_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    import prefect._internal.concurrency.services as services
    import prefect.events.clients as clients

    from studyflow.orchestration.outages import REPEATED, quiet_outages

    quiet_outages()
    client = clients.PrefectEventsClient(api_url="http://127.0.0.1:1/api")
    getattr(client, REPEATED["prefect.events.clients"])(OSError("refused"))
    clients.logger.warning("an event was refused")

    assert [record.getMessage() for record in caplog.records] == ["an event was refused"]
    assert callable(getattr(services.QueueService, REPEATED["prefect._internal.concurrency"]))
