"""What the executor asks of the Kubernetes API: ten requests, plain dictionaries, our own errors.

`client.py` makes them of a real cluster, `studyflow.testing.fake_cluster` of one in memory.

Nothing here retries. A request that fails raises, and whoever called decides what follows; the
runner's loop is the only one that tries anything again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from studyflow.errors import ExecutorBlocked, ExecutorError, ExecutorUnavailable

Event = tuple[str, dict[str, Any]]
"""What happened, and the object as it is since."""


class AlreadyExists(ExecutorError):
    """An object of this name is there already."""


class NotFound(ExecutorError):
    """There is no object of this name."""


class VersionTooOld(ExecutorError):
    """The server no longer knows what happened since this version: list again."""


class Refused(ExecutorBlocked):
    """The server understood and refused, and would refuse the same again: rights, admission."""


class ServerBusy(ExecutorUnavailable):
    """The server wants fewer requests for a while: none was sent, or this one was turned away."""


class ClusterApi(Protocol):
    """The requests, from any thread. `studyflow.testing.fake_cluster` has one in memory."""

    namespace: str
    cluster_id: str
    """Tells clusters apart: two that are the same here are one."""
    n_requests: dict[str, int]
    """Requests so far, by verb and kind, such as `list pods`."""

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        """Return the objects, as they are now and not as some cache has them, and their version."""

    def watch_objects(
        self, kind: str, selector: str, version: str
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (`ADDED`, `MODIFIED`, `DELETED` or `BOOKMARK`, object) from a version on.

        Ends after `WATCH_SECONDS`, or earlier without a reason.

        Raises:
            VersionTooOld: List again.
        """

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Create a Job and return it.

        Raises:
            AlreadyExists: There is one of that name.
        """

    def get_job(self, name: str) -> dict[str, Any] | None:
        """Return a Job, or `None` when there is none."""

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        """Merge a patch into a Job and return it, or `None` when there is none."""

    def delete_job(self, name: str) -> None:
        """Delete a Job and, in the background, its pods; silent when there is none."""

    def events(self, uid: str) -> list[dict[str, Any]]:
        """Return the events about one object, oldest first; empty without the right to see them."""

    def workload(self, uid: str) -> dict[str, Any] | None:
        """Return what Kueue keeps of the Job of this uid; `None` where that cannot be read."""

    def pending_workloads(self, queue: str) -> list[dict[str, Any]]:
        """Return who waits in a local queue of Kueue's; empty where that cannot be read."""

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        """Return the log of a pod's container with timestamps; empty when there is none (any more).

        `pod_log.written` takes the timestamps off, and what the kubelet said in the log's place.

        Args:
            pod: Name of the pod.
            tail_lines: Only so many lines at its end.
            limit_bytes: Only the first so many bytes of these, timestamps included.
        """

    def follow_log(self, pod: str) -> Iterator[bytes]:
        """Yield the log of a pod's container with timestamps as it is written, until its end."""

    def server_time(self) -> float | None:
        """Return the API server's time now, in seconds since the epoch; `None` while unknown.

        Asks nothing: the last answer said it, and a monotonic clock has counted since.
        """

    def close(self) -> None:
        """Let go of the connections."""
