"""The faults that reliability is measured against, what must follow, and what is not there yet.

A test says which faults it injects by `@pytest.mark.fault("F26")`; `make faults` runs those tests,
prints the table, and writes it to docs/reliability.md.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the table."""

    id: str
    fault: str
    """What goes wrong."""
    promise: str
    """What must follow."""
    left: str = ""
    """What of it is not there, or not tested, yet; such a row does not hold."""
    struck: str = ""
    """Why the row does not apply, by design."""


FAULTS = (
    Fault(
        "F01",
        "a container is killed for its memory",
        "the trial ends infeasible by `host-oom`, has no value, and the study goes on",
    ),
    Fault(
        "F02",
        "CUDA runs out of memory",
        "the trial ends infeasible by `cuda-oom`, and the study goes on",
    ),
    Fault(
        "F03",
        "eviction, preemption, a pod deleted",
        "the same trial is attempted again with the same parameters and its checkpoints, up to "
        "`retry.max_attempts`, which counts from the last attempt with a newer checkpoint; the "
        "sampler never hears of it",
    ),
    Fault(
        "F04",
        "a node is lost",
        "its attempt is fenced after a while and repeated; a late result is refused",
    ),
    Fault("F05", "Kubernetes starts a pod twice", "one outcome is recorded"),
    Fault(
        "F06",
        "an image cannot be pulled",
        "after a grace the study stops with the image's name and the registry's words",
    ),
    Fault(
        "F07",
        "a Secret or ConfigMap is missing",
        "the study stops at once and names it; nothing is repeated",
    ),
    Fault(
        "F08",
        "no node has room",
        "the trial waits with the reason, no further trial is asked for, and after a time it is "
        "attempted again",
    ),
    Fault("F09", "a quota is exceeded", "trials wait with the quota's name; none fails"),
    Fault("F10", "a policy or webhook refuses the pod", "the study stops with the rule it broke"),
    Fault(
        "F11",
        "Kueue keeps a Job suspended",
        "waiting is told, with the queue and the place in it, and its time does not count; a place "
        "that Kueue takes back costs an attempt and nothing else",
    ),
    Fault(
        "F12",
        "a node refuses pods, or its device is broken",
        "the attempt is repeated elsewhere; after two failures the study leaves the node out, "
        "which is told and kept, and goes back there when it has no other place",
    ),
    Fault(
        "F13",
        "the API server says 429 with Retry-After",
        "requests pause as long as told, and no Job is made twice",
    ),
    Fault(
        "F14",
        "the API server is away for a minute, or ten",
        "a minute is no news; longer is told once; running trials go on and none fails",
    ),
    Fault(
        "F15",
        "a Job was created, but the answer was lost",
        "it is adopted if it is the same trial's, else refused with the way out",
    ),
    Fault(
        "F16",
        "a watch ends in silence, is too old, or is torn",
        "it lists anew and misses nothing; a full list comes once in a while anyway",
    ),
    Fault("F17", "a list is stale", "nothing is taken for gone by one stale list"),
    Fault(
        "F18",
        "the token expires, a right is taken away",
        "an expired token is worth another try; without a right no trial starts, verb and resource "
        "are named, and running trials go on",
    ),
    Fault(
        "F19",
        "the namespace is deleted",
        "the study stops with that reason, and creates nothing again and again",
    ),
    Fault(
        "F20",
        "a Job is deleted by hand",
        "the attempt is lost and repeated, up to `retry.max_attempts`",
    ),
    Fault(
        "F21",
        "the runner is killed at any step",
        "the next runner adopts what runs and finishes what was begun; nothing is doubled",
    ),
    Fault(
        "F22",
        "the runner is told to end",
        "it stops or leaves its trials, records them, and exits within its grace period",
    ),
    Fault(
        "F23",
        "runner, trials and storage fail at random",
        "the study ends with all its trials, and every invariant holds",
    ),
    Fault(
        "F24",
        "two runners work on one study",
        "they share budget and limit exactly, and one takes over when the other dies; on one "
        "machine the second stands by",
    ),
    Fault(
        "F25",
        "a paused runner wakes up",
        "its attempts were taken over after 30 s; it overwrites nothing, ends them and rejoins",
    ),
    Fault(
        "F26",
        "the study's database is away for a minute, at any call",
        "the runner waits and goes on; trials never notice",
    ),
    Fault(
        "F27",
        "the database is away for longer than the runner's patience",
        "the runner ends with code 3 in one line; trials go on, and the next run picks them up",
    ),
    Fault(
        "F28",
        "the connection is cut after a commit",
        "what is stored is read back; no trial is made or told twice",
    ),
    Fault(
        "F29",
        "deadlock, serialization failure, connections cut, pool empty",
        "the call is repeated; a runner has at most four connections",
    ),
    Fault(
        "F30",
        "SQLite locked, disk full, file on a network share",
        "a lock and a full disk are waited for, and files stay whole; a network share is refused "
        "with advice",
    ),
    Fault(
        "F31",
        "the journal's last line is torn, or its middle garbled",
        "a torn line is cut off and kept in a copy; garbage is refused with its line's number",
    ),
    Fault(
        "F32",
        "MLflow is down, for a minute or for good",
        "training goes on; everything arrives once, later or by `studyflow sync`",
    ),
    Fault(
        "F33",
        "MLflow is slow, refuses or fails in the middle",
        "the runner does not wait; no point is doubled, memory is bounded",
    ),
    Fault(
        "F34",
        "an MLflow run or experiment is deleted",
        "it is replaced or restored, and the study goes on",
    ),
    Fault(
        "F35",
        "an artifact cannot be stored",
        "metrics arrive all the same; `studyflow sync` tries again",
    ),
    Fault(
        "F36",
        "Prefect's server restarts or is away",
        "the runner goes on; states are sent when it is back",
    ),
    Fault(
        "F37",
        "a flow run is cancelled",
        "its trials are ended and recorded within the grace period, also when the flow hangs",
    ),
    Fault(
        "F38",
        "a schedule starts a study that still runs",
        "the new runner stands by and takes over when the old one ends",
    ),
    Fault(
        "F39",
        "a script returns NaN, infinity, text, nothing",
        "NaN and infinity make the trial infeasible; another type fails it and is shown",
    ),
    Fault(
        "F40",
        "a script reports nothing, twice, or for another trial",
        "nothing is `bad-metric`; the last report counts; another trial's is refused",
    ),
    Fault(
        "F41",
        "a result is cut off, garbled, or nested too deep",
        "`bad-metric`, and the beginning of what came is shown",
    ),
    Fault(
        "F42",
        "a log of gigabytes, or of one line",
        "memory stays bounded, the end is kept; the trial's fate does not depend on it",
    ),
    Fault(
        "F43",
        "names and values with quotes, `$(...)`, newlines, emoji",
        "values travel as JSON and through no shell; object names are made from a hash",
    ),
    Fault(
        "F44",
        "the same name with another search space",
        "refused with the differences; `--fork` takes over what fits",
    ),
    Fault(
        "F45",
        "a clock is wrong, or jumps",
        "pauses and time limits use a clock that never goes back; a pod that another runner "
        "started is timed by differences of one clock each; durations are never negative",
    ),
    Fault(
        "F46",
        "a sampler fails, or takes minutes",
        "a simpler model suggests, or the best point found by `ask_seconds` is taken; one of "
        "Optuna's that raises, or does not come back in ten minutes, is replaced by a quasi-random "
        "point; either is recorded, and no running trial is left behind",
    ),
    Fault(
        "F47",
        "a suggestion was tried already",
        "another is drawn; a finite space ends when it is exhausted",
    ),
    Fault(
        "F48",
        "a search space of nothing, or of wrong bounds",
        "refused with a precise message before anything starts",
    ),
    Fault("F49", "a trial hangs", "it ends at its time limit by `timeout`, and its GPU is free"),
    Fault(
        "F50",
        "a trial ignores SIGTERM",
        "it is killed after the grace, and its attempt ends only then",
    ),
    Fault(
        "F51",
        "a password in a URL, a message, a manifest",
        "what scripts print and say passes one redaction on its way out: secrets that are known, "
        "passwords in addresses, tokens by their shape; Secrets are named, never read",
    ),
    Fault(
        "F52",
        "a hostile trial image",
        "no token, a namespace without the servers' Secrets, policies that leave it no way to the "
        "servers, nothing to write to but scratch space of a size; one that fills it, or forks "
        "without end, fails alone",
    ),
    Fault(
        "F53",
        "an image's tag is moved between trials",
        "all trials run the digest that the first one showed",
    ),
    Fault(
        "F54",
        "a thousand trials end in the same second",
        "each is recorded once; one look serves all of them",
    ),
    Fault(
        "F55",
        "a phase from a later Kubernetes",
        "it is no end, and nothing crashes",
    ),
    Fault(
        "F56",
        "tables of another Optuna; another Optuna in the image",
        "refused with the way out; trials need no Optuna at all",
    ),
    Fault(
        "F57",
        "studyflow is upgraded in the middle of a study",
        "a study of this or any earlier format goes on where it was, with what runs and what ended "
        "meanwhile; one of a later format is refused with the way out",
    ),
    Fault(
        "F58",
        "the time budget ends with trials in flight",
        "no new trial starts, and those in flight finish",
    ),
    Fault(
        "F59",
        "an outcome that is torn, garbage, empty, another attempt's, or no file at all",
        "bad-metric with its beginning, whatever the script reported before; what the disk does "
        "not take is an error in the script, and an earlier result stays whole",
    ),
    Fault(
        "F60",
        "a process of a trial fails beside or after the one that gives the result",
        "the result stands, in whatever order they come; without any, the failure counts",
    ),
    Fault(
        "F61",
        "a script survives a lack of memory and later fails of something else",
        "the last failure is judged alone, and the sampler is not told of a point without room",
    ),
    Fault(
        "F62",
        "a runner is killed between what an end writes",
        "an end is one write that names its attempt: the record of the next attempt has nothing of "
        "the one before, and of its curve only what came before its own first step",
    ),
    Fault(
        "F63",
        "a runner is stopped inside a write of the storage, and wakes up late",
        "others wait for its locks at most a minute (on one machine, where the lock is a file's, "
        "they say which process is stopped); its late write is refused, and it goes on with others",
    ),
    Fault(
        "F64",
        "a script replaces or removes files of its attempt: a folder, pipe, link or nothing where "
        "its outcome, its metrics, its log or what its runner keeps should be",
        "nothing waits for it, no descriptor is lost and no core is burnt; what runs is killed, "
        "the attempt ends as lost with a sentence, and every other trial goes on",
    ),
    Fault(
        "F65",
        "artifacts that are pipes, devices, endless files, or links that lead elsewhere",
        "regular files within the folder are kept with their size at the look, up to a limit; the "
        "rest is left out and said once",
    ),
    Fault(
        "F66",
        "a daemon that emptied its environment outlives its killed supervisor",
        "killed with its control group; without one, with its process group and session as far as "
        "a runner watched",
    ),
    Fault(
        "F67",
        "the study's folder is removed under a running runner",
        "made anew: what ran in it is killed and attempted again, and the study goes on",
    ),
    Fault(
        "F68",
        "the journal is damaged, cut, replaced or removed while a study runs",
        "the runner ends with code 3 in one sentence and writes nothing more there; a torn number "
        "is never read as a shorter one; a writer that is stopped is named and waited for a while",
    ),
    Fault(
        "F69",
        "the kubelet answers for a log that is gone, with status 200",
        "its words are never kept or shown as the trial's log; what was fetched before stays",
    ),
    Fault(
        "F70",
        "the pruner gives up a trial that has reported its last step",
        "it finishes and keeps its result; one that reports its last step while it is being "
        "stopped may finish too",
    ),
    Fault(
        "F71",
        "a curve that is NaN or infinite",
        "three such reports in a row end the trial by `nan`, whether or not the runner came in "
        "time to stop it; no pruner judges a report that is not finite",
    ),
    Fault(
        "F72",
        "a table for `import csv` that can be read in more than one way",
        "refused as a whole with each row and column before anything is written; the table of a "
        "report is read again as the same trials",
    ),
    Fault(
        "F73",
        "a step as Python prints it: 0.09090909090909091 for 1/11",
        "check, samplers, model, figures and imports know the same points, the upper bound among "
        "them; `check` says where a range is no whole number of steps",
    ),
    Fault(
        "F74",
        "a script logs by its own MLflow habits",
        "what it logged is found in any run and experiment of that MLflow; where runs disagree, or "
        "MLflow refuses, the message says what to change, and no value is picked",
    ),
    Fault(
        "F75",
        "`RANK` stands in the environment of the runner or of the study file",
        "it counts only with a `WORLD_SIZE` above it; a launcher's words to the runner do not "
        "reach the trials; a process that is silent says so",
    ),
    Fault(
        "F76",
        "a pruner hides trials from the sampler",
        "every sampler sees all trials under every pruner; `hyperband` still compares within its "
        "brackets",
    ),
    Fault(
        "F77",
        "a live run that stands by, waits, or is another machine's of the same name",
        "it is never taken for dead: only a flow run whose process is known to have ended is "
        "closed, and `explain` and MLflow say that a study is driven while it is",
    ),
    Fault(
        "F78",
        "`sync` without MLflow, with half of it, or without the extra for reports",
        "what can be sent is sent first; what was not is named with its remedy, and the exit code "
        "says it",
    ),
    Fault(
        "F79",
        "two threads use the storage while it is away",
        "each waits for itself; what is told is told once, and is true for all of them",
    ),
    Fault(
        "F80",
        "a study is cancelled while the place where trials run does not answer, or nothing runs",
        "it is tried again for 30 s, with pauses; what is left behind then is told",
    ),
    Fault(
        "F81",
        "a lost node still writes checkpoints",
        "they reach no later attempt: each writes into its own folder, a pod can write into no "
        "other that is in use, and of published checkpoints those of the newest attempt count",
    ),
    Fault(
        "F82",
        "a checkpoint is torn or damaged",
        "it is told and left out, and the one before it is gone on from",
    ),
    Fault(
        "F83",
        "a local script, a library in it or a process that it starts reads its environment",
        "it finds no secret of its runner, nor of its supervisor; a script that fails for "
        "want of one is told how to get it",
    ),
    Fault(
        "F84",
        "the study's database or all its files are lost in the middle of it",
        "`restore` of a backup that was made while it ran: finished trials are as they were, what "
        "ran is launched again; a restore that is refused or fails changes nothing",
    ),
    Fault(
        "F85",
        "a token for MLflow outlives its attempt, is another trial's, or is forged",
        "it writes nowhere: no run, artifact, model, alias or experiment; a living attempt's "
        "writes to its own run and to what it made",
    ),
    Fault(
        "F86",
        "a local trial writes an outcome, reports, documents, a request to stop or a later attempt "
        "into the folder of another one",
        "none of it counts: what an attempt or its runner wrote has a seal by a key that is in no "
        "file of the attempt; what another process wrote is told, and a true result stands",
    ),
    Fault(
        "F87",
        "a study file asks for the runner's rights, its node, the servers' Secrets or more than "
        "the platform lends",
        "it is refused before anything starts, all of it at once with its ways out; no Job that "
        "breaks a rule is made, and an API server that knows admission policies admits no such pod",
    ),
    Fault(
        "F88",
        "another user of the machine looks into a study's files, whatever the umask was",
        "its files have mode 0600 and its folders 0700, also those of an earlier version and of "
        "libraries; what a group shares by the set-group-ID bit stays its own",
    ),
    Fault(
        "F89",
        "the end of an attempt is seen by a second runner, or while none was there",
        "it has one row in the ledger, exact by its machine's clock, whoever recorded it",
    ),
    Fault(
        "F90",
        "an attempt is lost and nobody saw its end",
        "it counts until it was last seen alive, and its row says that this is an estimate",
    ),
    Fault(
        "F91",
        "the clocks of runner, node and second runner are hours apart",
        "no duration is the difference of two clocks: what an attempt cost stays exact",
    ),
    Fault(
        "F92",
        "two runners with one budget in GPU-hours lose attempts, are killed and stand still",
        "no attempt begins once the budget is reached; what is spent beyond it was in flight then",
    ),
    Fault(
        "F93",
        "the budget is reached while a retry waits",
        "it waits for what runs, and starts if that cost less than was committed to it; else its "
        "trial ends as `budget` and counts for nothing",
    ),
    Fault(
        "F94",
        "a runner is killed between the stop of a trial that is paused and its record, or while it "
        "takes one up",
        "the next runner records the pause once and takes the trial up in its turn: no attempt "
        "starts twice, each has one row in the ledger, and no step is trained twice",
    ),
    Fault(
        "F95",
        "an attempt is killed while it saves, just before it is paused",
        "it is lost and repeated from the checkpoint before; only a whole checkpoint lets it pause",
    ),
    Fault(
        "F96",
        "the checkpoint of a paused trial is gone or damaged when it is taken up",
        "the trial goes on from the one before, or begins anew; its result counts all the same",
    ),
    Fault(
        "F97",
        "two runners take up one paused trial",
        "one attempt starts, with one holder; the other runner leaves the trial to it",
    ),
    Fault(
        "F98",
        "the budget is reached while a paused trial waits",
        "nothing starts; it ends as pruned with its last values and counts as a trial",
    ),
    Fault(
        "F99",
        "an attempt that was recorded as paused still runs and writes",
        "it is stopped; what it reports, saves or ends with changes nothing of its trial",
    ),
)

CONTRACT = {
    "test_a_trial_that_is_already_running_is_not_submitted_twice": ("F15", "F21"),
    "test_a_second_executor_sees_and_adopts_a_running_attempt": ("F21",),
    "test_attempts_go_on_when_their_executor_is_closed": ("F22",),
    "test_an_attempt_killed_behind_its_back_is_lost": ("F20",),
    "test_a_hanging_attempt_ends_at_its_time_limit": ("F49",),
    "test_a_script_without_a_result_ends_with_a_cause_and_a_sentence": ("F40", "F59", "F61"),
    "test_a_child_that_fails_does_not_take_back_the_result": ("F60",),
    "test_the_last_finish_counts_as_a_whole": ("F40",),
    "test_a_nan_is_passed_on_for_the_study_to_judge": ("F39",),
    "test_a_script_that_ignores_sigterm_is_killed_after_the_grace": ("F50",),
    "test_points_are_stored_once_however_often_they_are_sent": ("F33",),
    "test_a_deleted_run_is_replaced": ("F34",),
    "test_a_final_value_is_the_latest_even_beside_points_of_a_clock_ahead": ("F45",),
    "test_names_may_hold_anything_printable": ("F43",),
    "test_the_log_of_a_stopped_attempt_is_what_its_script_wrote": ("F69",),
    "test_a_script_without_a_step_left_may_finish_when_it_is_stopped": ("F70",),
    "test_of_artifacts_only_files_of_their_folder_are_kept": ("F65",),
    "test_an_attempt_that_still_writes_does_not_reach_the_checkpoints_of_the_next": ("F81",),
}
"""Tests of the shipped contract suites, which know no marker of ours: each runs for every executor
or tracker."""
