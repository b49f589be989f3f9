"""Which runs an MLflow has: page by page, oldest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Literal

from studyflow.tracking.mlflow.client import Connection
from studyflow.tracking.mlflow.documents import SYNCED_TAG, Synced
from studyflow.trial import ATTEMPT_TAG, TRIAL_RUN_TAG
from studyflow.trial.record import TrialRecord

PAGE_SIZE: Final = 1000
EXPERIMENTS_PER_SEARCH: Final = 500
"""A search names each experiment, and a database bounds how long a statement may be."""

Role = Literal["study", "trial"]
"""Whose run it is: the study's own, or a trial's."""


class RunSearch:
    """Searches one MLflow. Every method raises what `Connection.client` does.

    Args:
        mlflow: Where the runs are.
        study_key: Digest of the study's name, which its runs have as a tag.
    """

    def __init__(self, mlflow: Connection, study_key: str) -> None:
        self._mlflow = mlflow
        self._study_key = study_key

    def of_study(self, experiment_id: str, role: Role, number: int | None = None) -> Iterator[Any]:
        """Yield the study's active runs of one role in an experiment, oldest first.

        Args:
            experiment_id: MLflow's id of the experiment.
            role: The study's own run, or those of its trials.
            number: The only trial wanted; `None` for all.
        """
        clauses = [
            f"tags.`studyflow.study_key` = '{self._study_key}'",
            f"tags.`studyflow.role` = '{role}'",
        ]
        if number is not None:
            clauses.append(f"tags.`studyflow.trial` = '{number}'")
        yield from all_pages(partial(self._page, [experiment_id], " and ".join(clauses)))

    def of_ids(self, run_ids: Sequence[str], experiment_id: str) -> Iterator[Any]:
        """Yield those of these runs that are active and in an experiment."""
        named = ", ".join(f"'{run_id}'" for run_id in run_ids)
        yield from all_pages(partial(self._page, [experiment_id], f"run_id IN ({named})"))

    def by_scripts(self, since_ms: int, experiment_id: str | None = None) -> Iterator[Any]:
        """Yield the runs that scripts of any trial started by themselves; see `of_attempt`.

        Args:
            since_ms: Only runs that began at this time or later, in milliseconds since the epoch.
            experiment_id: The only experiment to search; `None` for all.
        """
        yield from self.everywhere(since_ms, (f"tags.`{TRIAL_RUN_TAG}` LIKE '_%'",), experiment_id)

    def sent_trials(self, experiment_id: str) -> frozenset[int]:
        """Return the numbers of the trials whose runs in an experiment have everything."""
        tags = [run.data.tags for run in self.of_study(experiment_id, "trial")]
        return frozenset(
            int(tag["studyflow.trial"])
            for tag in tags
            if tag.get(SYNCED_TAG) == Synced.FINAL and tag.get("studyflow.trial", "").isdecimal()
        )

    def of_attempt(
        self,
        record: TrialRecord,
        run_id: str,
        since_ms: int = 0,
        experiment_id: str | None = None,
    ) -> Iterator[Any]:
        """Yield the runs that the newest attempt's script started by itself, oldest first.

        The variable MLFLOW_RUN_CONTEXT gives them tags; runs that MLflow's low-level client created
        have none. Where scripts write with tokens, the server's gate gives all of them these tags,
        and no script can.

        Args:
            record: The trial.
            run_id: The trial's run, if the record names none.
            since_ms: Only runs that began at this time or later, in milliseconds since the epoch.
            experiment_id: The only experiment where they can be; `None` for all.
        """
        clauses = (
            f"tags.`{TRIAL_RUN_TAG}` = '{record.run_id or run_id}'",
            f"tags.`{ATTEMPT_TAG}` = '{record.attempt}'",
        )
        yield from self.everywhere(since_ms, clauses, experiment_id)

    def everywhere(
        self, since_ms: int, clauses: Sequence[str] = (), experiment_id: str | None = None
    ) -> Iterator[Any]:
        """Yield active runs of any experiment, oldest first in each group of experiments.

        Args:
            since_ms: Only runs that began at this time or later, in milliseconds since the epoch.
            clauses: What holds for them, in MLflow's filter language.
            experiment_id: The only experiment to search; `None` for all.
        """
        ids = (
            [str(experiment.experiment_id) for experiment in all_pages(self._experiments)]
            if experiment_id is None
            else [experiment_id]
        )
        text = " and ".join((*clauses, f"attributes.start_time >= {since_ms}"))
        for first in range(0, len(ids), EXPERIMENTS_PER_SEARCH):
            some = ids[first : first + EXPERIMENTS_PER_SEARCH]
            yield from all_pages(partial(self._page, some, text))

    def _experiments(self, token: str | None) -> Any:
        with self._mlflow.client() as client:
            return client.search_experiments(max_results=PAGE_SIZE, page_token=token)

    def _page(self, experiment_ids: Sequence[str], text: str, token: str | None) -> Any:
        with self._mlflow.client() as client:
            return client.search_runs(
                list(experiment_ids),
                text,
                max_results=PAGE_SIZE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )


def all_pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the entries of all pages of an answer, of which `fetch` gets one by its token."""
    token = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return
