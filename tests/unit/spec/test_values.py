"""Values of parameters."""

from __future__ import annotations

import pytest

from studyflow.spec.values import plain


def test_numpy_scalars_become_plain() -> None:
    numpy = pytest.importorskip("numpy")

    assert type(plain(numpy.float64(1.5))) is float
    assert type(plain(numpy.int64(2))) is int
    assert plain("a") == "a"
