"""A finished run's artifacts: their keys, and a server that hangs."""

from __future__ import annotations

import logging
import threading

import pytest

pytestmark = pytest.mark.filterwarnings("default")


def test_artifact_keys_hold_only_what_prefect_takes() -> None:
    from studyflow.orchestration.artifacts import artifact_key

    assert artifact_key("CNN+LSTM (v2)", "best") == "cnn-lstm-v2-best"
    assert artifact_key("研究", "best") == "study-best"


@pytest.mark.fault("F36")
def test_artifacts_that_hang_are_told_and_cost_a_finished_study_nothing(
    hung: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from studyflow.orchestration import artifacts

    monkeypatch.setattr(artifacts, "get_run_logger", lambda: logging.getLogger("view"))
    monkeypatch.setattr(artifacts, "PUBLISH_SECONDS", 0.05)

    artifacts.publish(lambda: hung.wait(60))

    assert "Could not publish every artifact: no answer within 0.05 s" in caplog.text
