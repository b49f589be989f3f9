"""One list and one watch: nothing is missed, and nothing is believed too early."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from studyflow.errors import ExecutorUnavailable
from studyflow.executors.kubernetes.api import Refused
from studyflow.executors.kubernetes.reflector import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    PATIENCE_SECONDS,
    RELIST_SECONDS,
    Reflector,
)
from studyflow.testing.fake_cluster import FakeCluster, FakeClusterApi

AWAY = ExecutorUnavailable("It does not answer.")


def manifest(name: str, label: str = "demo") -> dict[str, Any]:
    container = {"name": "trial", "image": "demo:1"}
    return {
        "metadata": {"name": name, "labels": {"study": label}},
        "spec": {"backoffLimit": 0, "template": {"spec": {"containers": [container]}}},
    }


class Rig:
    """A reflector of Jobs that is stepped by hand."""

    def __init__(self, kind: str = "jobs", **api: Any) -> None:
        self.cluster = FakeCluster()
        self.api = FakeClusterApi(self.cluster, **api)
        self.side_door = FakeClusterApi(self.cluster)
        self.n_changes = 0
        self.during_change: Callable[[], object] = lambda: None
        """What happens in the watching thread as soon as something has changed."""
        self.reflector = Reflector(
            self.api, kind, "study=demo", self.count, self.cluster.clock, is_threaded=False
        )

    def count(self) -> None:
        self.n_changes += 1
        self.during_change()

    def create(self, name: str, label: str = "demo") -> dict[str, Any]:
        return self.side_door.create_job(manifest(name, label))

    def names(self) -> list[str]:
        return sorted(self.reflector.objects())


def test_it_lists_once_and_follows_from_there() -> None:
    rig = Rig()
    rig.create("a")
    rig.create("other", "another")
    rig.reflector.start()
    assert rig.names() == ["a"]

    rig.create("b")
    rig.cluster.delete_job("a")
    rig.reflector.step()

    assert rig.names() == ["b"]
    assert list(rig.reflector.gone()) == ["a"]
    assert rig.api.n_requests == {"list jobs": 1, "watch jobs": 1}
    assert rig.n_changes > 0


def test_what_was_deleted_keeps_its_last_state_until_it_is_dropped() -> None:
    rig = Rig("pods")
    job = manifest("a")
    job["spec"]["template"]["metadata"] = {"labels": {"study": "demo"}}
    rig.side_door.create_job(job)
    rig.reflector.start()
    rig.cluster.start("a")
    rig.cluster.finish("a", message="the outcome")
    rig.cluster.delete_job("a")
    rig.reflector.step()

    ((name, pod),) = rig.reflector.gone().items()
    assert rig.names() == []
    state = pod["status"]["containerStatuses"][0]["state"]
    assert state["terminated"]["message"] == "the outcome"
    rig.reflector.drop(name)
    rig.reflector.drop(name)
    assert rig.reflector.gone() == {}


@pytest.mark.fault("F16")
def test_a_version_that_is_too_old_is_listed_anew() -> None:
    rig = Rig()
    rig.create("a")
    rig.create("b")
    rig.reflector.start()
    rig.cluster.delete_job("a")
    rig.create("c")
    rig.cluster.compact()

    assert rig.reflector.step() == FIRST_PAUSE_SECONDS
    rig.reflector.step()

    assert rig.names() == ["b", "c"]
    assert list(rig.reflector.gone()) == ["a"]
    assert rig.api.n_requests["list jobs"] == 2
    rig.reflector.check()


@pytest.mark.fault("F16")
def test_a_watch_that_ends_in_silence_is_opened_again_where_it_ended() -> None:
    rig = Rig()
    rig.reflector.start()
    for name in "abc":
        rig.create(name)
        assert rig.reflector.step() == FIRST_PAUSE_SECONDS, "no busy loop"

    assert rig.names() == ["a", "b", "c"]
    assert rig.api.n_requests == {"list jobs": 1, "watch jobs": 3}


@pytest.mark.fault("F16")
def test_bookmarks_alone_are_no_change_and_move_the_version_on() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.create("other", "another")
    rig.reflector.step()
    rig.cluster.compact()

    rig.reflector.step()

    assert rig.n_changes == 0
    assert rig.api.n_requests["list jobs"] == 1


@pytest.mark.fault("F16")
def test_a_watch_that_is_cut_in_the_middle_loses_nothing() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.create("a")
    rig.create("b")

    def cut() -> None:
        rig.during_change = lambda: None
        raise AWAY

    rig.during_change = cut
    rig.reflector.step()
    rig.reflector.step()

    assert rig.names() == ["a", "b"]


@pytest.mark.fault("F16")
def test_a_full_list_comes_once_in_a_while_whatever_the_watch_says() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.cluster.advance(RELIST_SECONDS)
    rig.reflector.step()
    assert rig.api.n_requests["list jobs"] == 1
    rig.cluster.advance(1.0)
    rig.reflector.step()
    assert rig.api.n_requests["list jobs"] == 2


# ---- the API server is away -------------------------------------------------------------------


@pytest.mark.fault("F14")
def test_a_minute_without_an_api_server_is_no_news() -> None:
    rig = Rig()
    rig.create("a")
    rig.reflector.start()
    rig.api.go_away()
    rig.reflector.step()
    rig.cluster.advance(PATIENCE_SECONDS)
    rig.reflector.step()

    rig.reflector.check()
    assert rig.names() == ["a"]

    rig.cluster.advance(1.0)
    with pytest.raises(ExecutorUnavailable, match=r"away.*Since 61 s\."):
        rig.reflector.check()

    rig.create("b")
    rig.api.come_back()
    rig.reflector.step()
    rig.reflector.check()
    assert rig.names() == ["a", "b"]


def test_the_pause_doubles_up_to_its_limit_and_starts_anew_after_a_success() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.api.go_away()
    assert [rig.reflector.step() for _ in range(7)] == [0.5, 1, 2, 4, 8, LONGEST_PAUSE_SECONDS, 15]
    rig.api.come_back()
    rig.reflector.step()
    rig.api.go_away()
    assert rig.reflector.step() == FIRST_PAUSE_SECONDS


def test_a_start_without_an_api_server_fails_and_can_be_tried_again() -> None:
    rig = Rig()
    rig.api.go_away()
    for _ in range(2):
        with pytest.raises(ExecutorUnavailable):
            rig.reflector.start()
    rig.api.come_back()
    rig.create("a")
    rig.reflector.start()
    assert rig.names() == ["a"]


@pytest.mark.fault("F18")
def test_a_right_that_was_taken_away_is_told_after_the_patience_too() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.api.interrupt("watch jobs", Refused("Cannot watch jobs: 403 forbidden"), times=None)
    rig.api.interrupt("list jobs", Refused("Cannot list jobs: 403 forbidden"), times=None)
    rig.reflector.step()
    rig.cluster.advance(PATIENCE_SECONDS + 1)
    rig.reflector.step()

    with pytest.raises(ExecutorUnavailable, match="403 forbidden"):
        rig.reflector.check()


def test_what_nobody_thought_of_is_logged_and_survived(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    rig.reflector.start()
    rig.api.interrupt("watch jobs", KeyError("metadata"))
    rig.create("a")
    with caplog.at_level(logging.WARNING):
        rig.reflector.step()
    rig.reflector.step()

    assert "the watch failed" in caplog.text
    assert rig.names() == ["a"]


# ---- what arrives in another order ------------------------------------------------------------


@pytest.mark.fault("F17")
def test_an_older_event_does_not_undo_the_answer_to_a_write() -> None:
    rig = Rig()
    rig.create("a")
    rig.reflector.start()
    rig.side_door.patch_job("a", {"metadata": {"labels": {"n": "1"}}})
    newest = rig.side_door.patch_job("a", {"metadata": {"labels": {"n": "2"}}})
    assert newest is not None
    rig.reflector.put(newest)
    rig.reflector.put({"metadata": {"name": "a", "resourceVersion": "1"}})

    assert rig.reflector.objects()["a"]["metadata"]["labels"]["n"] == "2"
    rig.reflector.step()
    assert rig.reflector.objects()["a"]["metadata"]["labels"]["n"] == "2"


def test_versions_that_are_no_numbers_count_by_their_arrival() -> None:
    rig = Rig()
    rig.reflector.start()
    for version in ("b", "a"):
        rig.reflector.put({"metadata": {"name": "x", "resourceVersion": version}})

    assert rig.reflector.objects()["x"]["metadata"]["resourceVersion"] == "a"


@pytest.mark.fault("F17")
def test_what_is_created_while_a_list_is_under_way_is_not_gone() -> None:
    rig = Rig()
    rig.reflector.start()
    rig.cluster.compact()
    rig.create("other", "another")
    rig.cluster.compact()
    rig.reflector.step()  # too old
    rig.api.interrupt("list jobs", lambda: rig.reflector.put(rig.create("a")), is_after=True)

    rig.reflector.relist()

    assert rig.names() == ["a"]
    assert rig.reflector.gone() == {}
    rig.reflector.step()
    assert rig.names() == ["a"]


@pytest.mark.fault("F17")
def test_a_stale_list_takes_nothing_back() -> None:
    rig = Rig()
    before = rig.cluster.version
    rig.create("a")
    newer = rig.create("b")
    patched = rig.side_door.patch_job("b", {"metadata": {"labels": {"n": "1"}}})
    rig.reflector.start()
    for version in (before, newer["metadata"]["resourceVersion"]):
        rig.api.list_as_of(version)
        rig.reflector.relist()

        assert rig.names() == ["a", "b"]
        assert rig.reflector.objects()["b"]["metadata"]["labels"]["n"] == "1"
        assert rig.reflector.gone() == {}
    assert patched is not None


def test_the_end_of_a_former_object_of_this_name_does_not_hide_the_new_one() -> None:
    rig = Rig()
    rig.create("a")
    rig.reflector.start()
    rig.cluster.delete_job("a")
    again = rig.create("a")
    rig.reflector.put(again)
    uid = again["metadata"]["uid"]

    seen = []
    rig.during_change = lambda: seen.append(dict(rig.reflector.objects()))
    rig.reflector.step()

    assert [objects["a"]["metadata"]["uid"] for objects in seen] == [uid] * len(seen)


# ---- the thread -------------------------------------------------------------------------------


def test_a_thread_follows_by_itself_until_it_is_closed() -> None:
    cluster = FakeCluster()
    api = FakeClusterApi(cluster, watch_seconds=5.0)
    before = threading.enumerate()
    reflector = Reflector(api, "jobs", "study=demo", lambda: None)
    reflector.start()
    reflector.start()
    FakeClusterApi(cluster).create_job(manifest("a"))
    deadline = time.monotonic() + 10
    while not reflector.objects() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert list(reflector.objects()) == ["a"]

    (thread,) = (t for t in threading.enumerate() if t not in before)
    reflector.close()
    FakeClusterApi(cluster).create_job(manifest("b"))  # an event, so that the watch looks up
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert list(reflector.objects()) == ["a"]
    assert api.n_requests["list jobs"] == 1
