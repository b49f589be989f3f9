"""Several runners on one study in PostgreSQL: exact counts, and a fair share for each."""

from __future__ import annotations

import pytest
from benchmarks.control_plane.runners import Work, share
from tests.postgres import create_database, running_postgres

from studyflow.diagnostics.invariants import Evidence, check


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.fault("F24")
@pytest.mark.parametrize(
    ("n_runners", "n_trials"),
    [(3, 60), pytest.param(10, 1000, marks=pytest.mark.long)],
)
def test_runners_of_one_study_finish_exactly_its_trials_and_share_them(
    n_runners: int, n_trials: int
) -> None:
    with running_postgres() as postgres:
        work = Work(create_database(postgres.url, "shared"), n_trials, n_runners, slots=2)
        shared = share(work)

    assert shared.reasons == {f"All {n_trials} trials are finished."}
    assert shared.shares.total() == n_trials
    assert {record.number for record in shared.records} == set(range(len(shared.records)))
    assert {record.attempt for record in shared.records if record.cause == "ok"} == {1}
    assert min(shared.shares[site] for site in shared.cpu_seconds) >= n_trials / n_runners / 2
    findings = check(Evidence(work.spec, shared.records))
    assert [finding for finding in findings if finding.is_problem] == []
