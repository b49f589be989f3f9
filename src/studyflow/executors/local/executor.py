"""Runs the attempts of one study as local processes; `studyflow.executors.local` has the rules."""

from __future__ import annotations

import json
import logging
import os
import select
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from studyflow.errors import ExecutorError
from studyflow.executors.earlier import FormerNames
from studyflow.executors.local import cgroups, supervisor
from studyflow.executors.local.attempt import (
    CHECK_SECONDS,
    Launch,
    LockState,
    has_ended,
    lock_state,
)
from studyflow.executors.local.command import Surroundings, resolve_command
from studyflow.executors.local.ending import STOP_KIND, is_own_stop
from studyflow.executors.local.files import (
    DAMAGED,
    as_unavailable,
    is_file,
    make_folder,
    read_object,
    replace_file,
)
from studyflow.executors.local.followed import FollowedAttempts
from studyflow.executors.local.gpus import GpuPool
from studyflow.executors.local.inherited import LeftOutNotice
from studyflow.executors.local.killing import ProcessKiller
from studyflow.executors.local.logs import LocalFiles
from studyflow.executors.local.monitor import AttemptMonitor
from studyflow.executors.local.starting import SupervisorStarter, claim
from studyflow.executors.local.study_folder import StudyFolder
from studyflow.executors.local.supervisor_handle import collect_children
from studyflow.executors.protocol import (
    AttemptId,
    AttemptState,
    AttemptStatus,
    ExecutorTraits,
)
from studyflow.executors.run_tokens import RunTokens
from studyflow.redaction import Redactor
from studyflow.trial import Cause, Trial
from studyflow.trial.attempt_files import AttemptFiles
from studyflow.trial.seals import sealed

logger = logging.getLogger(__name__)

CHECK_SECONDS_WITHOUT_PIDFD: Final = 0.02
"""`CHECK_SECONDS` where the end of a process can only be found by asking for it."""


class LocalExecutor(FormerNames):
    """Runs the attempts of one study as local processes.

    POSIX only; the whole process tree is kept together on Linux only.

    Args:
        study: Name of the study.
        command: Program and arguments; see `studyflow.executors.local.command`.
        root: Folder of this study on a local disk; made if missing. Two studies must not share one.
        cwd: Folder of the study file.
        env: Variables for the script besides the runner's own, of which those are left out that a
            launcher such as torchrun gave the runner.
        withheld_env: Variables of the runner that the script does not get, besides those that look
            like secrets.
        inherit_env: Names of those that it gets all the same, or patterns such as `WANDB_*`.
        tokens: Makes what scripts write to their MLflow runs with; `None` where MLflow has no gate.
        timeout_seconds: Longest time for one attempt, without the grace; `None` for no limit.
        gpus_per_trial: GPUs for one attempt, handed over in CUDA_VISIBLE_DEVICES; with 0 that
            variable stays as it is. A machine without any GPU runs the study on its processor.
        gpu_ids: The GPUs to hand out, as CUDA_VISIBLE_DEVICES names them; `None` for those the
            machine has.
        stop_grace_seconds: Time between SIGTERM and SIGKILL for a script that is stopped.
        redact: Takes secrets out of what scripts say about their end.
        on_note: Hears of files that another process changed; and once which variables scripts do
            not get, if one of them seems to be missed.
        keep: Called by each `poll` and `submit`, once `root` is there: whoever keeps files of its
            own in it sees to it that they still are. May raise `ExecutorUnavailable`.
        is_reader: Whether to start no script, not even one whose runner was killed before it did.

    Raises:
        ExecutorError: The command's program does not exist, or one trial needs more GPUs than
            there are.
        ExecutorUnavailable: `root` cannot be written to.
    """

    def __init__(
        self,
        study: str,
        command: Sequence[str],
        *,
        root: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        withheld_env: Collection[str] = (),
        inherit_env: Collection[str] = (),
        tokens: RunTokens | None = None,
        timeout_seconds: float | None = None,
        gpus_per_trial: int = 0,
        gpu_ids: Sequence[str] | None = None,
        stop_grace_seconds: float = 10.0,
        redact: Redactor | None = None,
        on_note: Callable[[str], None] = logger.warning,
        keep: Callable[[], None] | None = None,
        is_reader: bool = False,
    ) -> None:
        self._study = study
        surroundings = Surroundings(
            cwd.absolute(),
            dict(env or {}),
            withheld_env,
            inherit_env,
            tokens or RunTokens(),
        )
        self._left_out = surroundings.left_out
        self._command = resolve_command(command, surroundings.cwd, surroundings.search_path)
        self._timeout_seconds = timeout_seconds
        self._stop_grace_seconds = stop_grace_seconds
        self._gpus = GpuPool.of_machine(gpus_per_trial, gpu_ids)
        self._folder = StudyFolder(root, keep, on_note)
        self._key_of = self._folder.keys.known if is_reader else self._folder.keys.of
        self._files = LocalFiles(self._folder)
        killer = ProcessKiller(cgroups.find_parent())
        self._monitor = AttemptMonitor(
            self._folder,
            None if is_reader else SupervisorStarter(surroundings),
            killer,
            redact or Redactor(),
            LeftOutNotice(on_note),
        )
        self._attempts = FollowedAttempts(self._folder, killer, self._key_of, on_note)

    @property
    def traits(self) -> ExecutorTraits:
        """As many slots as trials find GPUs, and no canary: a start that fails costs nothing."""
        return ExecutorTraits(slots=self._gpus.slots)

    @property
    def site(self) -> str:
        """This machine's name, and a number that the study's folder keeps.

        Two machines may have one name.
        """
        return self._folder.site

    def submit(self, trial: Trial, *, avoid: Collection[str] = ()) -> AttemptId:  # noqa: ARG002
        """Start an attempt, or adopt the one that exists already.

        There is one machine only, and so nothing to avoid.

        Raises:
            ExecutorUnavailable: The disk refuses, or every GPU is taken.
            ExecutorError: The root holds another study's trial of this number, or the operating
                system will not start a process with such arguments.
        """
        if trial.study != self._study:
            raise ExecutorError(
                f"This executor runs study {self._study!r}; the trial is of {trial.study!r}."
            )
        attempt = AttemptId(trial.number, trial.attempt)
        with as_unavailable("submit to", self._folder.root):
            self._folder.restore()
            make_folder(self._folder.trial(trial.number))
            # First the entry that makes poll ask for it, then the attempt: the other way round,
            # an attempt could exist that nobody sees.
            self._folder.open_entry(attempt)
            self._attempts.discard_if_damaged(attempt)
            folder = self._folder.attempt(attempt)
            is_new = not folder.exists()
            if is_new:
                with self._gpus.lock(self._folder.root):
                    launch = self._launch(self._gpus.choose(self._attempts.gpus()))
                    claim(folder, replace(trial, key=self._key_of(attempt)), launch)
            followed = self._attempts.follow(attempt)
            _refuse_other(trial, followed.trial, self._folder.root)
            is_started = followed.is_ended or followed.supervisor.was_started_here
            if not is_started and followed.has_never_started:
                try:
                    self._monitor.start(followed)
                except ExecutorError:
                    if is_new:
                        self._attempts.discard(attempt)
                    raise
        return attempt

    def poll(self) -> Mapping[AttemptId, AttemptStatus]:
        """Return every attempt that was submitted and not forgotten, by whomever.

        Costs a few system calls for each attempt that still runs and none for ended ones.

        Raises:
            ExecutorUnavailable: The disk does not answer.
        """
        collect_children()
        statuses: dict[AttemptId, AttemptStatus] = {}
        with as_unavailable("read", self._folder.root):
            self._folder.restore()
            for attempt in self._attempts.open():
                try:
                    followed = self._attempts.follow(attempt)
                except FileNotFoundError as error:
                    # Submitted this very moment, or its runner died doing so.
                    if os.path.lexists(self._folder.attempt(attempt)):
                        self._attempts.end_damaged(attempt, error)
                    continue
                except DAMAGED as error:  # cut short with the power, or a script's doing
                    self._attempts.end_damaged(attempt, error)
                    continue
                statuses[attempt] = self._monitor.update(followed)
        self._attempts.drop_all_but(statuses)
        return statuses

    def wait(self, timeout_seconds: float) -> None:
        """Return within milliseconds of an attempt's end, or soon after new metrics came.

        What the last `poll` saw already is no reason to return. The end of attempts that another
        runner submitted is noticed once `poll` has seen them.
        """
        deadline = time.monotonic() + timeout_seconds
        ends = select.poll()
        check_seconds = CHECK_SECONDS
        live = self._attempts.live()
        for followed in live:
            descriptor = followed.supervisor.descriptor
            if descriptor is None or followed.fingerprint.is_supervisor_dead:
                check_seconds = CHECK_SECONDS_WITHOUT_PIDFD
            else:
                ends.register(descriptor, select.POLLIN)
        deadline = min([deadline, *(followed.check_at for followed in live)])
        while not any(followed.has_changed() for followed in live):
            pause = min(deadline - time.monotonic(), check_seconds)
            if pause <= 0 or ends.poll(pause * 1000):
                return

    def stop(self, attempt: AttemptId, cause: Cause, reason: str) -> None:
        """Ask an attempt to end; it ends with this cause. The first request counts.

        The script gets SIGTERM, then after the grace its whole process tree is killed.

        Raises:
            ExecutorUnavailable: The disk refuses.
        """
        folder = self._folder.attempt(attempt)
        followed = self._attempts.known(attempt)
        if followed is not None and followed.is_ended:
            return
        with as_unavailable("stop an attempt in", self._folder.root):
            if lock_state(folder) is LockState.MISSING or has_ended(folder):
                return
            key = self._key_of(attempt)
            stop = folder / supervisor.STOP
            if is_file(stop) and is_own_stop(read_object(stop), key):
                return
            request = {"cause": cause.value, "reason": reason, "at": time.time()}
            text = json.dumps(request if key is None else sealed(request, key, STOP_KIND))
            replace_file(stop, text)

    def forget(self, attempt: AttemptId) -> None:
        """Let go of an ended attempt; its files stay.

        Raises:
            ExecutorError: The attempt has not ended.
            ExecutorUnavailable: The disk refuses.
        """
        folder = self._folder.attempt(attempt)
        followed = self._attempts.known(attempt)
        with as_unavailable("forget an attempt in", self._folder.root):
            is_ended = followed is not None and followed.is_ended
            is_open = self._folder.has_entry(attempt)
            is_there = is_open and lock_state(folder) is not LockState.MISSING
            if not is_ended and is_there and not has_ended(folder):
                raise ExecutorError(
                    f"Attempt {attempt} has not ended and cannot be forgotten.",
                    hint="stop it and wait for its end.",
                )
            self._folder.close_entry(attempt)
        self._attempts.drop(attempt)

    def files(self, attempt: AttemptId) -> AttemptFiles:
        """Return what the attempt left behind; works after `forget` too."""
        return self._files.files(attempt)

    def read_log(self, attempt: AttemptId, *, offset: int = 0, limit_bytes: int = 65536) -> bytes:
        """Return up to `limit_bytes` of the attempt's log from a byte offset; empty at the end."""
        return self._files.read_log(attempt, offset, limit_bytes)

    def follow_log(self, attempt: AttemptId) -> Iterator[bytes]:
        """Yield the log as it is written, until the attempt ends.

        Raises:
            ExecutorUnavailable: The disk does not answer.
        """
        offset = 0
        while True:
            # Polled first: what is written until the end is read after it.
            status = self.poll().get(attempt)
            while piece := self.read_log(attempt, offset=offset):
                offset += len(piece)
                yield piece
            if status is None or status.state is AttemptState.ENDED:
                return
            time.sleep(CHECK_SECONDS)

    def close(self) -> None:
        """Stop following the attempts; they go on."""
        self._attempts.drop_all_but(())
        self._folder.close()
        collect_children()

    def _launch(self, gpus: tuple[str, ...]) -> Launch:
        return Launch(
            self._command,
            gpus,
            self._timeout_seconds,
            self._stop_grace_seconds,
            self._left_out(),
        )


def _refuse_other(trial: Trial, existing: Trial, root: Path) -> None:
    """Refuse to take the files of an older study of the same name for this trial's."""
    if (existing.study, dict(existing.params), existing.budget) != (
        trial.study,
        dict(trial.params),
        trial.budget,
    ):
        raise ExecutorError(
            f"{root} holds another trial {trial.number}, of study {existing.study!r} with other "
            "parameters.",
            hint="the study's storage was removed but not its trials: remove that folder too, or "
            "give the study another name.",
        )
