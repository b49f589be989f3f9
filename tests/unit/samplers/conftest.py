"""BoTorch is imported here once, quietly, before tests turn warnings into errors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

import studyflow.samplers.models.torch_model  # noqa: F401
from studyflow.samplers.isolation import thread_pools


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Compute with one thread, as the sampler itself does.

    For matrices of this size a pool of threads costs more than it saves: on busy machines a fit by
    BoTorch takes twenty times longer with two.
    """
    threads = torch.get_num_threads()
    with thread_pools().limit(limits=1):
        torch.set_num_threads(1)
        yield
    torch.set_num_threads(threads)
