"""What a suggestion changes of its process: nothing that is seen afterwards."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
import torch

from studyflow.samplers.isolation import isolated, thread_pools


def _threads() -> tuple[int, list[int]]:
    return torch.get_num_threads(), [pool.num_threads for pool in thread_pools().lib_controllers]


@pytest.fixture(autouse=True)
def _two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    with thread_pools().limit(limits=2):
        torch.set_num_threads(2)
        yield
    torch.set_num_threads(before)


def test_there_is_a_pool_of_blas_and_one_of_openmp() -> None:
    assert {pool.user_api for pool in thread_pools().lib_controllers} >= {"blas", "openmp"}


def test_one_thread_computes_and_all_come_back() -> None:
    before = _threads()

    with isolated(1):
        inside, pools = _threads()

    assert (inside, set(pools)) == (1, {1})
    assert _threads() == before != (inside, pools)


def test_threads_and_draws_come_back_after_an_error() -> None:
    before, state = _threads(), torch.random.get_rng_state()

    with pytest.raises(RuntimeError), isolated(1):
        torch.rand(3) @ torch.rand(4)

    assert _threads() == before
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_seed_decides_what_is_drawn_and_no_draw_is_seen_outside() -> None:
    draws = []
    for seed in (1, 1, 2):
        torch.rand(1)  # somebody else's
        with isolated(seed):
            draws.append(torch.rand(4).tolist())

    assert draws[0] == draws[1] != draws[2]


def test_advice_of_the_numerics_is_not_told_and_later_warnings_are() -> None:
    with isolated(1):
        warnings.warn("jitter was added", stacklevel=1)

    with pytest.warns(UserWarning, match="told"):
        warnings.warn("told", stacklevel=1)


def test_a_suggestion_inside_another_one_s_isolation_is_that_of_its_own_seed() -> None:
    with isolated(7):
        alone = torch.rand(4).tolist()
    with isolated(1):
        torch.rand(2)
        with isolated(7):
            within = torch.rand(4).tolist()

    assert within == alone
