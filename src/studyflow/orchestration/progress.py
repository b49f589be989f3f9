"""The progress bar on a flow run's page."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final, cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from studyflow.observers.observer import Progress
from studyflow.orchestration.artifacts import artifact_key
from studyflow.orchestration.outages import PATIENCE_SECONDS, protected
from studyflow.orchestration.run_states import show_pause

ARTIFACT_SECONDS: Final = 5.0
"""Shortest pause between two updates of the progress artifact."""


class ProgressArtifact:
    """A study's progress as an artifact, and its pauses as the run's state.

    Args:
        study: Name of the study.
        logger: The flow run's.
    """

    def __init__(self, study: str, logger: logging.Logger | logging.LoggerAdapter[Any]) -> None:
        self._study = study
        self._logger = logger
        self._latest: Progress | None = None
        self._shown: Progress | None = None
        self._artifact: UUID | None = None
        self._is_paused = False
        self._is_away = False
        self._closing = threading.Event()

    def take(self, progress: Progress) -> None:
        """Take the newest progress; it is shown soon."""
        self._latest = progress

    def close(self) -> None:
        """Let `keep_up` return when it has shown the last progress."""
        self._closing.set()

    def keep_up(self) -> None:
        """Show each progress until the study ends, in a thread of its own.

        The last one is tried for as long as a finished study waits for a server that is away.
        """
        while not self._closing.wait(ARTIFACT_SECONDS):
            self._show_latest()
        self._show_latest()
        n_left = int(PATIENCE_SECONDS / ARTIFACT_SECONDS)
        while self._is_away and n_left > 0:
            n_left -= 1
            time.sleep(ARTIFACT_SECONDS)
            self._show_latest()

    def _show_latest(self) -> None:
        progress = self._latest
        if progress is None or progress is self._shown:
            return
        with protected(self._note_away):
            self._show(progress)
            self._shown = progress
            if self._is_away:
                self._is_away = False
                self._logger.info("Prefect's server is back.")

    def _note_away(self, error: Exception) -> None:
        if not self._is_away:
            self._logger.warning(
                "Prefect's server does not answer; the study goes on, and its page catches "
                "up when it is back: %s",
                error,
            )
        self._is_away = True

    def _show(self, progress: Progress) -> None:
        share = progress.share or 0.0
        if progress.n_trials is not None:
            share = progress.n_finished / max(progress.n_trials, 1)
        percent = 100.0 * share
        spent = f"; spent {progress.spent}" if progress.spent else ""
        description = f"Finished trials of {self._study}{spent}"
        if self._artifact is not None:
            update_progress_artifact(self._artifact, progress=percent, description=description)
        else:
            created = create_progress_artifact(
                progress=percent,
                key=artifact_key(self._study, "progress"),
                description=description,
            )
            self._artifact = cast(UUID, created)  # a synchronous call returns the artifact's id
        if progress.is_paused is not self._is_paused:
            show_pause(progress.is_paused)
            self._is_paused = progress.is_paused
