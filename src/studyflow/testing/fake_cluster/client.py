"""One client of a fake cluster, whose requests a test counts, and lets fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.api import Event
from studyflow.executors.kubernetes.names import QUEUE_LABEL
from studyflow.testing.fake_cluster.cluster import FakeCluster
from studyflow.testing.fake_cluster.store import copied


@dataclass(slots=True)
class _Interruption:
    """What happens instead of, or after, the next requests of one kind."""

    action: Exception | Callable[[], None]
    n_left: int | None
    is_after: bool


class FakeClusterApi:
    """A client of a `FakeCluster`; fulfils `ClusterApi`.

    Requests are named as `KubernetesApi.n_requests` names them: `list`, `watch`, `create`, `get`,
    `patch` and `delete jobs`; `list`, `watch` and `log pods`; `list events`; `list resourcequotas`.

    Args:
        cluster: The cluster.
        watch_seconds: How long a watch without news stays open, in real seconds. 0 ends it as soon
            as it has told everything, which is what a test without threads needs.
    """

    def __init__(self, cluster: FakeCluster, *, watch_seconds: float = 0.0) -> None:
        self.cluster = cluster
        self.namespace = cluster.namespace
        self.cluster_id = "fake"
        self.n_requests: dict[str, int] = {}
        """Requests so far, by name; failed ones count too."""
        self._counting = threading.Lock()
        self.is_closed = False
        self._watch_seconds = watch_seconds
        self._is_away = False
        self._stale_version: str | None = None
        self._interruptions: dict[str, list[_Interruption]] = {}

    # What a test makes happen

    def go_away(self) -> None:
        """Let every request raise `ExecutorUnavailable`; the cluster goes on."""
        self._is_away = True

    def come_back(self) -> None:
        """Let requests succeed again, those too that `interrupt` was to fail."""
        self._is_away = False
        self._interruptions.clear()

    def interrupt(
        self,
        request: str,
        action: Exception | Callable[[], None],
        *,
        times: int | None = 1,
        is_after: bool = False,
    ) -> None:
        """Let the next requests of a name fail, or let something else happen meanwhile.

        Args:
            request: Such as `create jobs`.
            action: Is raised, or called.
            times: How many requests; `None` for all until `come_back`.
            is_after: Whether the cluster has done what was asked by then, so that only the answer
                is lost, or late.
        """
        queue = self._interruptions.setdefault(request, [])
        queue.append(_Interruption(action, times, is_after))

    def list_as_of(self, version: str | None) -> None:
        """Let lists answer from an older version, as a cache that lags does; `None` ends it."""
        self._stale_version = version

    # The requests

    def list_objects(self, kind: str, selector: str) -> tuple[list[dict[str, Any]], str]:
        self._begin(f"list {kind}")
        found = self.cluster.api_server.list_objects(kind, selector, self._stale_version)
        self._end(f"list {kind}")
        return found

    def watch_objects(self, kind: str, selector: str, version: str) -> Iterator[Event]:
        self._begin(f"watch {kind}")
        seen = int(version)
        while True:
            newest = int(self.cluster.version)
            for change in self.cluster.api_server.changes_since(kind, selector, seen):
                yield change.event, copied(change.item)
                self._answer(f"watch {kind}")
            seen = newest
            if self._watch_seconds <= 0 or not self.cluster.api_server.wait_for_change(
                seen, self._watch_seconds
            ):
                break
        yield "BOOKMARK", {"metadata": {"resourceVersion": str(seen)}}
        self._end(f"watch {kind}")

    def create_job(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self._begin("create jobs")
        job = self.cluster.api_server.create_job(manifest)
        self._end("create jobs")
        return job

    def get_job(self, name: str) -> dict[str, Any] | None:
        self._begin("get jobs")
        job = self.cluster.api_server.get_job(name)
        self._end("get jobs")
        return job

    def patch_job(self, name: str, patch: Mapping[str, Any]) -> dict[str, Any] | None:
        self._begin("patch jobs")
        job = self.cluster.api_server.patch_job(name, patch)
        self._end("patch jobs")
        return job

    def delete_job(self, name: str) -> None:
        self._begin("delete jobs")
        self.cluster.delete_job(name)
        self._end("delete jobs")

    def events(self, uid: str) -> list[dict[str, Any]]:
        self._begin("list events")
        found = self.cluster.api_server.events_about(uid)
        self._end("list events")
        return found

    def workload(self, uid: str) -> dict[str, Any] | None:
        self._begin("list workloads")
        found = self.cluster.api_server.workloads().get(uid)
        self._end("list workloads")
        return found

    def pending_workloads(self, queue: str) -> list[dict[str, Any]]:
        self._begin("get localqueues")
        found = [
            workload
            for workload in self.cluster.api_server.workloads().values()
            if workload["metadata"]["labels"].get(QUEUE_LABEL) == queue
        ]
        self._end("get localqueues")
        return found

    def read_log(
        self, pod: str, *, tail_lines: int | None = None, limit_bytes: int | None = None
    ) -> bytes:
        self._begin("log pods")
        lines = self.cluster.api_server.log_lines(pod)
        tail = lines if tail_lines is None else lines[len(lines) - min(tail_lines, len(lines)) :]
        self._end("log pods")
        return b"".join(tail)[:limit_bytes]  # as the kubelet does: the limit counts from the first

    def follow_log(self, pod: str) -> Iterator[bytes]:
        self._begin("log pods")
        yield from self.cluster.api_server.log_lines(pod)
        self._end("log pods")

    def server_time(self) -> float | None:
        return self.cluster.clock() if self.n_requests else None

    def close(self) -> None:
        self.is_closed = True

    def _begin(self, request: str) -> None:
        with self._counting:
            self.n_requests[request] = self.n_requests.get(request, 0) + 1
        self._answer(request)
        self._interrupt(request, is_after=False)

    def _end(self, request: str) -> None:
        self._interrupt(request, is_after=True)

    def _answer(self, request: str) -> None:
        if self._is_away:
            raise ExecutorUnavailable(f"The fake cluster was told to be away ({request}).")

    def _interrupt(self, request: str, *, is_after: bool) -> None:
        queue = self._interruptions.get(request)
        if not queue or queue[0].is_after != is_after:
            return
        first = queue[0]
        if first.n_left is not None:
            first.n_left -= 1
            if first.n_left <= 0:
                queue.pop(0)
        if isinstance(first.action, Exception):
            raise first.action
        first.action()
