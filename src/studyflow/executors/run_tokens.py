"""Makes the tokens by which attempts write to their MLflow runs."""

from __future__ import annotations

import time
from collections.abc import Callable

from studyflow.trial import Trial
from studyflow.trial.run_token import RunToken


class RunTokens:
    """Makes the token of each attempt of a study.

    Args:
        key: The key that MLflow's server shares; `None` where it asks for no tokens.
        timeout_seconds: The study's time limit for a trial; `None` without one.
        clock: Seconds since the epoch.
    """

    def __init__(
        self,
        key: str | None = None,
        timeout_seconds: float | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def of(self, trial: Trial) -> str | None:
        """Return the token of an attempt; `None` without a key, or without a run."""
        if self._key is None or trial.tracking is None:
            return None
        token = RunToken.issued(
            study=trial.study,
            run_id=trial.tracking.run_id,
            number=trial.number,
            attempt=trial.attempt,
            now=self._clock(),
            timeout_seconds=self._timeout_seconds,
        )
        return token.signed(self._key)
