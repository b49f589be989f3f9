"""A call in the background gives its result, its error, or is left behind."""

from __future__ import annotations

import threading

import pytest

from studyflow.background import Background, DaemonPool, DaemonWorker, NoAnswer, result_of


def test_a_call_returns_what_it_returns() -> None:
    assert Background("test", lambda: 3).result(5.0) == 3


def test_a_call_raises_what_it_raises() -> None:
    def fail() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        Background("test", fail).result(5.0)


def test_a_call_that_hangs_is_left_behind() -> None:
    never = threading.Event()
    call = Background("test", lambda: never.wait(30))

    with pytest.raises(NoAnswer, match="no answer within 0 s"):
        call.result(0.0)
    never.set()
    assert call.result(5.0)


def test_a_call_that_raises_a_timeout_of_its_own_has_answered() -> None:
    def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Background("test", fail).result(5.0)


def test_a_call_that_would_end_its_thread_ends_nobody_else() -> None:
    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(RuntimeError, match=r"SystemExit\(3\)"):
        Background("test", leave).result(5.0)


def test_a_worker_makes_calls_one_after_the_other_in_one_daemon_thread() -> None:
    worker = DaemonWorker("test")
    threads = [worker.submit(threading.current_thread) for _ in range(3)]
    (thread,) = {result_of(future, 5.0) for future in threads}
    assert (thread.name, thread.daemon) == ("test", True)
    assert worker.stop(5.0)
    assert not thread.is_alive()


def test_a_call_that_has_not_begun_can_be_cancelled_and_is_never_made() -> None:
    worker = DaemonWorker("test")
    go_on = threading.Event()
    made: list[int] = []
    first = worker.submit(lambda: go_on.wait(30))
    second = worker.submit(lambda: made.append(1))
    with pytest.raises(NoAnswer):
        result_of(second, 0.0)
    assert second.cancel()
    go_on.set()
    assert result_of(first, 5.0)
    assert not first.cancel()
    assert worker.stop(5.0)
    assert made == []


def test_a_worker_that_hangs_does_not_stop_in_time() -> None:
    worker = DaemonWorker("test")
    go_on = threading.Event()
    worker.submit(lambda: go_on.wait(30))
    assert not worker.stop(0.0)
    go_on.set()


def test_a_worker_that_never_worked_has_stopped() -> None:
    assert DaemonWorker("test").stop(0.0)


def test_a_pool_makes_its_calls_side_by_side_and_keeps_their_order() -> None:
    together = threading.Barrier(3, timeout=10)

    def call(number: int) -> int:
        together.wait()
        return 10 * number

    pool = DaemonPool("test", 3)
    assert pool.map(call, [1, 2, 3]) == [10, 20, 30]
    assert pool.map(call, [4, 5, 6]) == [40, 50, 60]
    pool.close()


def test_a_pool_raises_the_first_error_once_all_calls_are_made() -> None:
    made = []

    def call(number: int) -> None:
        made.append(number)
        if number > 1:
            raise ValueError(f"broken {number}")

    pool = DaemonPool("test", 2)
    with pytest.raises(ValueError, match="broken 2"):
        pool.map(call, [1, 2, 3, 4])
    assert sorted(made) == [1, 2, 3, 4]
    pool.close()


def test_a_pool_that_was_closed_has_no_threads_and_can_be_used_again() -> None:
    pool = DaemonPool("pool-test", 2)
    assert pool.map(abs, [-1, -2, -3]) == [1, 2, 3]
    threads = [t for t in threading.enumerate() if t.name == "pool-test"]
    assert len(threads) == 2
    pool.close()
    for thread in threads:
        thread.join(10)
    # Threads of other tests may end meanwhile, so these are asked alone.
    assert [t for t in threading.enumerate() if t.name == "pool-test"] == []
    assert pool.map(abs, []) == []
    assert pool.map(abs, [-4]) == [4]
    pool.close()


def test_a_pool_that_is_used_again_makes_every_call_while_an_earlier_one_hangs() -> None:
    pool, gate, began = DaemonPool("test", 2), threading.Event(), threading.Event()

    def hang() -> None:
        began.set()
        assert gate.wait(10)

    hanging = pool.submit(hang)
    assert began.wait(10)
    pool.close()
    assert pool.submit(lambda: "made").result(10) == "made"
    gate.set()
    assert hanging.result(10) is None
    pool.close()
