"""A flow from the command line: what it says at its end, and the exit code."""

from __future__ import annotations

import io
import sys
from typing import Any

import httpx
import pytest

from studyflow.interrupt import Terminated
from studyflow.reasons import Code, Reason

pytestmark = pytest.mark.filterwarnings("default")

UNSHOWN = "Prefect's server does not answer{}, and its page does not show the end.\n"


@pytest.fixture
def _no_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start no server and probe none."""
    from studyflow.orchestration import script

    for name in ("end_orphaned_servers", "start_embedded_server"):
        monkeypatch.setattr(script, name, lambda _settings: None)
    for name in ("check_server", "quiet_outages"):
        monkeypatch.setattr(script, name, lambda: None)


@pytest.mark.usefixtures("_no_servers")
@pytest.mark.parametrize(("is_shown", "code"), [(True, 0), (False, 3)])
@pytest.mark.fault("F36")
def test_a_study_that_prefect_never_hears_of_has_ended_all_the_same(
    is_shown: bool,
    code: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from types import SimpleNamespace

    from studyflow.orchestration.screen import Screen, current_screen
    from studyflow.orchestration.script import run_script

    monkeypatch.setattr("studyflow.orchestration.screen.print_result", lambda *_: None)
    reason = Reason(Code.BUDGET_SPENT, "All 3 trials are finished.")
    result: Any = SimpleNamespace(outcome=SimpleNamespace(is_failure=False, reason=reason))

    def run() -> Any:
        if is_shown:
            current_screen().print_result(result)
        raise httpx.ConnectError("Connection refused")

    assert run_script(lambda: None, run, Screen(io.StringIO())) == code

    assert capsys.readouterr().err == UNSHOWN.format(" (Connection refused)")


@pytest.mark.parametrize("error", [KeyboardInterrupt, Terminated])
@pytest.mark.fault("F36")
def test_an_interrupted_script_does_not_wait_for_a_server_that_is_away(
    error: type[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from studyflow.orchestration import script
    from studyflow.orchestration.screen import Screen

    monkeypatch.setattr(script, "is_server_away", lambda: True)
    monkeypatch.setattr(script, "end_now", sys.exit)

    with (
        pytest.raises(SystemExit) as ended,
        Screen(io.StringIO()).in_use(),
        script.ending_in_time(),
    ):
        raise error

    assert ended.value.code == 130
    assert capsys.readouterr().err == (
        "Interrupted; finished trials are kept. Run it again to continue.\n" + UNSHOWN.format("")
    )
    # A worker's flow run has no screen, and is ended by Prefect.
    with pytest.raises(error), script.ending_in_time():
        raise error


def test_a_muted_screen_shows_nothing_and_keeps_no_error_of_the_flow_below() -> None:
    from studyflow.errors import StorageUnavailable
    from studyflow.orchestration.screen import Screen, current_screen

    printed: list[str] = []
    screen = Screen(io.StringIO())
    with screen.in_use():
        with current_screen().muted():
            current_screen().print(lambda _console: printed.append("below"))
            current_screen().keep_error(StorageUnavailable("below"))
        current_screen().print(lambda _console: printed.append("above"))

    assert (printed, screen.error) == (["above"], None)
    assert current_screen() is not screen
