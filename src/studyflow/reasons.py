"""Why something is as it is: a code for programs, a sentence for people, and a hint how to fix it.

`Reason` is that; `Finding` is one that was looked for, with how much it matters and what it is
concluded from.

Whoever has to decide looks at the code. A message is for people: it may be worded anew at any time,
and `tests/architecture/` sees to it that no line of this package reads one.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final


class Consequence(enum.Enum):
    """What follows for the trial when one of its attempts ends."""

    TELL = "tell"
    """The outcome is told to the sampler."""
    RETRY = "retry"
    """The same trial is attempted again; the sampler never hears of it."""
    INFEASIBLE = "infeasible"
    """The parameters are to blame: the trial fails and the sampler learns where not to go."""
    FAIL = "fail"
    """The trial fails; alike failures from different parameters stop the study."""
    PAUSE = "pause"
    """The trial gives its slot away and goes on later from its checkpoint: neither a failure nor a
    retry."""
    WAIT = "wait"
    """The trial waits for room; nothing has run."""
    END = "end"
    """The trial ends and does not count towards the budget."""


class Cause(enum.StrEnum):
    """Why an attempt ended. A closed list; stored, so values are added to and never renamed.

    Each is a reason's code, too.
    """

    OK = "ok"
    PRUNED = "pruned"

    EVICTED = "evicted"
    PREEMPTED = "preempted"
    NODE_LOST = "node-lost"
    NODE_FAULT = "node-fault"
    """The node refused the pod, or its device is broken."""
    IMAGE_PULL = "image-pull"
    """The image cannot be pulled, or cannot be used."""
    QUOTA = "quota"
    """A quota of the cluster leaves no room."""
    API_UNAVAILABLE = "api-unavailable"
    LOST = "lost"

    HOST_OOM = "host-oom"
    CUDA_OOM = "cuda-oom"
    NAN = "nan"
    TIMEOUT = "timeout"

    USER_ERROR = "user-error"
    BAD_METRIC = "bad-metric"

    BUDGET = "budget"
    """A limit of the study's budget was reached (`budget.at_limit: stop`), or nothing more fits."""
    UNSCHEDULABLE = "unschedulable"
    """No node takes the pod."""
    CANCELLED = "cancelled"
    PAUSED = "paused"
    """An attempt: it was stopped to free its slot, and its trial may go on later. A study: a person
    has it start no trial for now."""

    @property
    def consequence(self) -> Consequence:
        """What follows for the trial."""
        return _CONSEQUENCES[self]

    @property
    def is_infrastructure(self) -> bool:
        """Whether neither the parameters nor the training script are to blame."""
        return self.consequence in (Consequence.RETRY, Consequence.WAIT)


_CONSEQUENCES: Final[Mapping[Cause, Consequence]] = {
    Cause.OK: Consequence.TELL,
    Cause.PRUNED: Consequence.TELL,
    Cause.EVICTED: Consequence.RETRY,
    Cause.PREEMPTED: Consequence.RETRY,
    Cause.NODE_LOST: Consequence.RETRY,
    Cause.NODE_FAULT: Consequence.RETRY,
    Cause.IMAGE_PULL: Consequence.RETRY,
    Cause.QUOTA: Consequence.RETRY,
    Cause.API_UNAVAILABLE: Consequence.RETRY,
    Cause.LOST: Consequence.RETRY,
    Cause.HOST_OOM: Consequence.INFEASIBLE,
    Cause.CUDA_OOM: Consequence.INFEASIBLE,
    Cause.NAN: Consequence.INFEASIBLE,
    Cause.TIMEOUT: Consequence.INFEASIBLE,
    Cause.USER_ERROR: Consequence.FAIL,
    Cause.BAD_METRIC: Consequence.FAIL,
    Cause.UNSCHEDULABLE: Consequence.WAIT,
    Cause.CANCELLED: Consequence.END,
    Cause.BUDGET: Consequence.END,
    Cause.PAUSED: Consequence.PAUSE,
}


class Code(enum.StrEnum):
    """What a reason is about, if that is not, or finer than, the cause of an attempt's end.

    A closed list; stored, so values are added to and never renamed.

    *Nothing was said* and *what was said is damaged, or about something else* are two codes.
    """

    # ---- how an attempt ended, more exactly than its cause ---------------------------------------

    OUTCOME_MISSING = "outcome-missing"
    """The script ended in order and said nothing of its result."""
    OUTCOME_DAMAGED = "outcome-damaged"
    """What stands where the outcome belongs cannot be read."""
    OUTCOME_FOREIGN = "outcome-foreign"
    """The outcome is about another attempt."""
    OUTCOME_FORGED = "outcome-forged"
    """The outcome lacks the attempt's seal: another process wrote it."""
    OUTCOME_REFUSED = "outcome-refused"
    """The outcome says what no script can know."""
    METRIC_MISSING = "metric-missing"
    """The outcome lacks a metric of the study's."""
    METRIC_MISNAMED = "metric-misnamed"
    """The outcome has metrics, and not the one that the study asks for."""
    METRIC_AMBIGUOUS = "metric-ambiguous"
    """A metric was logged with more than one value, so that none is the result."""
    METRIC_OUTDATED = "metric-outdated"
    """Only an earlier attempt logged a metric."""
    METRICS_UNREADABLE = "metrics-unreadable"
    """The file of reported metrics cannot be read, or not to its end."""
    DISK_FULL = "disk-full"
    """The attempt wrote more than its disk space."""
    STOP_FORGED = "stop-forged"
    """Something else than a runner asked for the attempt's end."""
    FOLDER_REMOVED = "folder-removed"
    """The attempt's folder was removed or replaced while it ran."""
    VARIABLE_LEFT_OUT = "variable-left-out"
    """The script seems to miss a variable that its runner has and did not pass on."""
    ATTEMPTS_SPENT = "attempts-spent"
    """The last of `retry.max_attempts` was lost too."""
    COULD_NOT_START = "could-not-start"
    """The trial was withdrawn, because no trial of the study can start."""
    NOT_STARTABLE = "not-startable"
    """Something that every trial of the study needs does not exist, or is refused."""

    # ---- why an attempt has not begun ------------------------------------------------------------

    IN_QUEUE = "in-queue"
    """Its Job waits for a queue to admit it."""
    POD_REFUSED = "pod-refused"
    """The cluster refuses to make its pod: an admission policy, a webhook, a missing right."""
    POD_MISSING = "pod-missing"
    """Its Job has no pod yet, and nothing says why."""
    CONTAINER_WAITING = "container-waiting"
    """Its pod has a node, and its container has not begun."""
    STOPPING = "stopping"
    """It is being stopped before it began."""
    NO_SLOT = "no-slot"
    """All GPUs, or all places of this machine, are taken."""

    # ---- why a study ends, or cannot go on -------------------------------------------------------

    BUDGET_SPENT = "budget-spent"
    MOSTLY_FAILED = "mostly-failed"
    """The budget is spent and there is a result, and most of the latest trials failed."""
    TIME_SPENT = "time-spent"
    GPU_HOURS_SPENT = "gpu-hours-spent"
    """No further trial fits into `budget.gpu_hours`."""
    COST_SPENT = "cost-spent"
    """No further trial fits into `budget.cost`."""
    FINISH_TIME_REACHED = "finish-time-reached"
    """No further trial ends before `budget.finish_by`."""
    PRICE_MISSING = "price-missing"
    """`budget.cost` needs a price that nobody has set."""
    TARGET_REACHED = "target-reached"
    NO_IMPROVEMENT = "no-improvement"
    FAILED_ALIKE = "failed-alike"
    """The last trials failed for one and the same reason."""
    FIRST_FAILED = "first-failed"
    """A trial failed, before any succeeded, by something that no parameters can change."""
    NOTHING_FEASIBLE = "nothing-feasible"
    """The budget is spent and no trial gave a feasible value."""

    # ---- why a study is stuck or slow ------------------------------------------------------------

    RUNNER_MISSING = "runner-missing"
    """No runner drives the study."""
    RUNNER_UNSEEN = "runner-unseen"
    """No runner is seen from here; one elsewhere may drive the study."""
    RUNNER_INTERRUPTED = "runner-interrupted"
    """A person, or the system, told the runner to end before the study had come to its end."""
    RUNNER_SUSPENDED = "runner-suspended"
    RUNNER_STANDS_BY = "runner-stands-by"
    """A second runner only waits to take over."""
    FLOW_RUN_LATE = "flow-run-late"
    """No worker has taken the flow run up."""
    FLOW_RUN_QUEUED = "flow-run-queued"
    """The flow run waits for another run of its deployment."""
    FLOW_RUN_PENDING = "flow-run-pending"
    """The flow run was submitted and has not begun."""
    FLOW_RUN_PAUSED = "flow-run-paused"
    FLOW_RUN_ENDED = "flow-run-ended"
    """The last flow run crashed, failed or was cancelled."""
    STORAGE_SLOW = "storage-slow"
    TRACKER_BEHIND = "tracker-behind"
    """MLflow lacks finished trials."""
    ORCHESTRATOR_UNAVAILABLE = "orchestrator-unavailable"
    """Prefect's server does not answer."""
    ATTEMPTS_LOST = "attempts-lost"
    """Many attempts were lost to the infrastructure."""
    MEMORY_SHORT = "memory-short"
    """Many trials ran out of memory."""
    STRAGGLER = "straggler"
    """A trial takes much longer than the others did."""
    SUGGESTIONS_SLOW = "suggestions-slow"
    STARTS_SLOW = "starts-slow"
    """Trials spend most of their time before their script begins."""
    NEVER_PRUNED = "never-pruned"
    """The pruner has nothing to judge by."""
    PARALLELISM_LIMITED = "parallelism-limited"

    # ---- what a preflight, or a check of results, finds ------------------------------------------

    PACKAGE_UNSUITABLE = "package-unsuitable"
    """Python, or a package, is of a version that studyflow is not made for."""
    NOT_INSTALLED = "not-installed"
    """studyflow itself is only imported."""
    FOLDER_READ_ONLY = "folder-read-only"
    DISK_SPACE_SHORT = "disk-space-short"
    CONNECTION_UNVERIFIED = "connection-unverified"
    """A database of another network is reached without proof that it is the right one."""
    WEBHOOK_UNENCRYPTED = "webhook-unencrypted"
    """The address of a webhook begins with http:// and leads to another machine."""
    GPUS_SHORT = "gpus-short"
    """Fewer GPUs than a trial asks for."""
    TRACKER_OUT_OF_REACH = "tracker-out-of-reach"
    """Pods do not reach MLflow."""
    RIGHTS_MISSING = "rights-missing"
    RIGHTS_SURPLUS = "rights-surplus"
    NO_ANSWER = "no-answer"
    """A server took longer than it was given."""
    CHECK_BROKEN = "check-broken"
    """A check ended with an error of its own."""
    PROMISE_BROKEN = "promise-broken"
    """An invariant does not hold."""
    PROMISE_UNCHECKED = "promise-unchecked"
    """What an invariant is about could not be seen."""

    # ---- errors: one for each class of `studyflow.errors`, and finer ones ------------------------

    UNSPECIFIED = "unspecified"
    """An error of a base class."""
    STUDY_FILE_WRONG = "study-file-wrong"
    KEY_MISSING = "key-missing"
    """A study file lacks a key."""
    KEY_UNKNOWN = "key-unknown"
    """A study file has a key that means nothing there."""
    VALUE_WRONG = "value-wrong"
    """A value of a study file breaks a rule."""
    POD_FORBIDDEN = "pod-forbidden"
    """A study file asks for a pod that no trial may have."""
    PLATFORM_FORBIDS = "platform-forbids"
    """A study file asks for what this platform does not allow."""
    PLATFORM_WRONG = "platform-wrong"
    """The platform's file cannot be read, or is wrong."""
    OPTION_WRONG = "option-wrong"
    """A value of a command's option breaks a rule."""
    OPTIONS_CONFLICT = "options-conflict"
    """Two options of a command exclude each other, or one needs another."""
    OUTSIDE_SPACE = "outside-space"
    """A point does not belong to the search space."""
    FIXED_OTHERWISE = "fixed-otherwise"
    """An earlier result has another value of a parameter that the study fixes."""
    RESULT_UNFINISHED = "result-unfinished"
    """An earlier result did not come to its end, or nothing says how it ended."""
    RESULT_INCOMPLETE = "result-incomplete"
    """An earlier result lacks a metric, or one is no finite number."""
    DOCUMENT_UNREADABLE = "document-unreadable"
    STUDY_REFUSED = "study-refused"
    STUDY_NOT_FOUND = "study-not-found"
    STUDY_MISMATCH = "study-mismatch"
    STUDY_STOPPED = "study-stopped"
    STUDY_BUSY = "study-busy"
    """Another runner of this machine drives the study."""
    TABLE_UNREADABLE = "table-unreadable"
    TRIAL_TAKEN = "trial-taken"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    STORAGE_BROKEN = "storage-broken"
    SAMPLER_REFUSED = "sampler-refused"
    EXECUTOR_REFUSED = "executor-refused"
    EXECUTOR_UNAVAILABLE = "executor-unavailable"
    EXECUTOR_BLOCKED = "executor-blocked"
    TRACKER_REFUSED = "tracker-refused"
    TRACKER_UNAVAILABLE = "tracker-unavailable"
    SIMULATION_REFUSED = "simulation-refused"
    PREFECT_REFUSED = "prefect-refused"
    PREFECT_UNAVAILABLE = "prefect-unavailable"
    SCHEMA_OUTDATED = "schema-outdated"
    """A server's database is of another version than its client."""
    BACKUP_REFUSED = "backup-refused"
    BACKUP_UNAVAILABLE = "backup-unavailable"
    BACKUP_DAMAGED = "backup-damaged"
    """An archive is not as it was written."""
    EXTRA_MISSING = "extra-missing"
    FILE_REFUSED = "file-refused"
    """The operating system refuses a file or folder."""


ReasonCode = Cause | Code
"""What programs know a reason by. No value is in both lists."""


def read_code(text: Any) -> ReasonCode | None:
    """Return a stored code; `None` for that of a later version, and for what is none."""
    for kind in (Cause, Code):
        with contextlib.suppress(ValueError):
            return kind(text)
    return None


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: what programs decide by, and what people read."""

    code: ReasonCode
    message: str
    """What is the matter, a sentence or two; empty when there is nothing to say."""
    hint: str | None = None
    """The fix, without a capital at its beginning; `None` when there is nothing to do."""

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}".lstrip() if self.hint else self.message


class Level(enum.StrEnum):
    """How much a finding matters, the first the most."""

    FINISHED = "finished"
    """Nothing more is to come: the budget is spent, or a stop rule holds."""
    PROBLEM = "problem"
    """A study does not run, or does not go on, until something is done."""
    WARNING = "warning"
    """A study runs, slower or worse than it could."""
    NOTE = "note"
    """Worth knowing for who expected something else."""
    OK = "ok"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at, and how it stands."""

    code: ReasonCode
    level: Level
    subject: str
    """What it is about, a word or two that do not change: for scripts."""
    message: str
    """What was seen."""
    hint: str | None = None
    """The fix, without a capital at its beginning; `None` when there is nothing to do."""
    evidence: tuple[str, ...] = ()
    """What it is concluded from, a sentence each, for who doubts it."""

    @classmethod
    def ok(cls, subject: str, message: str) -> Finding:
        """Return the finding that all is well."""
        return cls(Cause.OK, Level.OK, subject, message)

    @classmethod
    def because(
        cls,
        level: Level,
        subject: str,
        reason: Reason,
        *,
        hint: str | None = None,
        evidence: Iterable[str] = (),
    ) -> Finding:
        """Return the finding that a reason makes.

        Args:
            level: How much it matters.
            subject: What it is about.
            reason: Code, message and fix.
            hint: The fix when the reason has none.
            evidence: What it is concluded from.
        """
        way_out = reason.hint or hint
        return cls(reason.code, level, subject, reason.message, way_out, tuple(evidence))

    @property
    def is_problem(self) -> bool:
        """Whether something has to be done about it."""
        return self.level is Level.PROBLEM

    @property
    def reason(self) -> Reason:
        """Code, message and fix."""
        return Reason(self.code, self.message, self.hint)
