"""Who makes a call: an attempt that lives, with the runs and models that are its own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote

from studyflow.errors import TrackingError
from studyflow.tracking.mlflow.gate.facts import Lookup, ModelFacts, RunFacts
from studyflow.trial import ATTEMPT_TAG, LOST_ATTEMPT_TAG, TRIAL_RUN_TAG
from studyflow.trial.run_token import RunToken

DEFAULT_EXPERIMENT: Final = "0"
"""MLflow's experiment of those who choose none."""


NAME_LIMIT_BYTES: Final = 255
"""Longest name of a file; a longer one fails on MLflow's disk."""


class CallRefused(TrackingError):
    """A call is not allowed.

    Args:
        message: Why, for the author of a script.
        error_code: MLflow's code of the error, which its client shows.
        status: Status of the HTTP answer.
    """

    def __init__(
        self, message: str, *, error_code: str = "PERMISSION_DENIED", status: int = 403
    ) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.status = status


class Holder:
    """A token's holder: the trial's own run, and what else it made.

    Args:
        token: The token, already verified.
        lookup: What MLflow's store knows.

    Raises:
        CallRefused: The attempt that the token was made for does not live.
    """

    def __init__(self, token: RunToken, lookup: Lookup) -> None:
        self._token = token
        self._lookup = lookup
        own = lookup.run(token.run_id)
        if own is None or not own.is_running:
            raise CallRefused(f"{self.name} has ended: its token writes no more.")
        if own.tags.get(ATTEMPT_TAG) != str(token.attempt):
            raise CallRefused(
                f"{self.name} was replaced by attempt {own.tags.get(ATTEMPT_TAG)}: "
                "its token writes no more."
            )
        lost = own.tags.get(LOST_ATTEMPT_TAG, "")
        if lost.isdecimal() and int(lost) >= token.attempt:
            raise CallRefused(
                f"{self.name} was given up as lost, and its trial is attempted again: "
                "its token writes no more."
            )
        self.own: Final = own

    @property
    def name(self) -> str:
        """The attempt, in words."""
        return f"Attempt {self._token.attempt} of trial {self._token.number}"

    @property
    def stamp(self) -> dict[str, str]:
        """Tags of what this attempt makes beside its own run."""
        return {TRIAL_RUN_TAG: self._token.run_id, ATTEMPT_TAG: str(self._token.attempt)}

    def written(self, run_id: str) -> RunFacts:
        """Return a run that the holder may write to: the trial's own, or one that it made.

        Raises:
            CallRefused: It is another one.
        """
        if run_id == self.own.run_id:
            return self.own
        run = self._lookup.run(run_id)
        is_made_here = (
            run is not None
            and run.experiment_id == self.own.experiment_id
            and run.tags.get(TRIAL_RUN_TAG) == self.own.run_id
        )
        if run is None or not is_made_here:
            raise CallRefused(
                f"The token of trial {self._token.number} writes to the trial's own run "
                f"({self.own.run_id}) and to runs that the trial made; {shown(run_id)} is neither."
            )
        return run

    def read(self, run_id: str) -> RunFacts:
        """Return a run that the holder may read: one of its experiment.

        Raises:
            CallRefused: It is of another experiment, or does not exist.
        """
        run = self.own if run_id == self.own.run_id else self._lookup.run(run_id)
        if run is None or run.experiment_id != self.own.experiment_id:
            raise CallRefused(
                f"The token of trial {self._token.number} reads runs of its study's experiment; "
                f"{shown(run_id)} is none of them."
            )
        return run

    def model(self, model_id: str, *, is_written: bool) -> ModelFacts:
        """Return a logged model of the experiment that the holder may read, or write to.

        Raises:
            CallRefused: It is another trial's, or does not exist.
        """
        model = self._lookup.model(model_id)
        if model is None or model.experiment_id != self.own.experiment_id:
            raise CallRefused(
                f"The logged model {shown(model_id)} is none of the trial's experiment."
            )
        if is_written:
            self.written(model.source_run_id)
        return model

    def experiment(self, named: str) -> str:
        """Return the experiment of the trial's run, if a request means that one.

        It does so too with the id of MLflow's default experiment, which clients send for scripts
        that have chosen none.

        Raises:
            CallRefused: It means another one.
        """
        if named not in (self.own.experiment_id, DEFAULT_EXPERIMENT, ""):
            raise CallRefused(
                f"A trial logs to its study's experiment ({self.own.experiment_id}), not to "
                f"{shown(named)}. Take the id out of the script, or name the experiment in the "
                "study file: `experiment: NAME`."
            )
        return self.own.experiment_id

    @property
    def experiment_name(self) -> str:
        """Name of the experiment of the trial's run.

        Raises:
            CallRefused: Somebody has removed it since the run was looked up.
        """
        name = self._lookup.experiment_name(self.own.experiment_id)
        if name is None:
            raise CallRefused(
                f"The experiment {self.own.experiment_id} of trial {self._token.number} is gone.",
                error_code="RESOURCE_DOES_NOT_EXIST",
                status=404,
            )
        return name

    def require_artifact(self, path: str, *, is_written: bool) -> None:
        """Return if a path below the server's folder is of the holder's artifacts.

        Args:
            path: A path, decoded once.
            is_written: Whether it is to be written; otherwise other runs of the experiment count.

        Raises:
            CallRefused: It is not, or it is no plain path.
        """
        parts = plain_parts(path)
        # A file is in the folder, and not in its place.
        folder = parts[:-1] if is_written else parts
        if is_below(folder, self.own.artifact_path):
            return
        # EXPERIMENT/RUN/artifacts/..., or EXPERIMENT/models/MODEL/artifacts/...
        owner: RunFacts | ModelFacts | None = None
        if len(parts) > 2 and parts[1] == "models":
            owner = self.model(parts[2], is_written=is_written)
        elif len(parts) > 1:
            owner = self.written(parts[1]) if is_written else self.read(parts[1])
        if owner is None or not is_below(folder, owner.artifact_path):
            raise CallRefused(f"The path {shown(path)} is not of this trial's artifacts.")


def plain_parts(path: str) -> tuple[str, ...]:
    """Return the names that a path consists of.

    Raises:
        CallRefused: It leads up, or could be read in another way: it is encoded twice, or holds
            backslashes, control characters or empty names, or names that no disk takes.
    """
    parts = tuple(path.split("/"))
    is_odd = (
        unquote(path) != path
        or any(part in ("", ".", "..") for part in parts)
        or any(len(part.encode(errors="replace")) > NAME_LIMIT_BYTES for part in parts)
        or any(char in "\\?#" or not char.isprintable() for char in path)
    )
    if is_odd:
        raise CallRefused(f"The artifact path {shown(path)} is not a plain one.")
    return parts


def is_below(parts: Sequence[str], folder: str | None) -> bool:
    """Return whether a path is a folder's, or of something in it."""
    top = tuple((folder or "").split("/"))
    return bool(folder) and tuple(parts[: len(top)]) == top


def shown(value: str) -> str:
    """Return what a client sent, quoted and short."""
    return json.dumps(value[:80])
