"""Studies on disk, of which nothing is left running when a test fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.faults.place import Place


@pytest.fixture
def new_place(tmp_path: Path) -> Iterator[Callable[..., Place]]:
    """Give a maker of a study on disk, with the arguments of `Place` but its folder."""
    made: list[Place] = []

    def make(**arguments: Any) -> Place:
        made.append(Place(tmp_path, **arguments))
        return made[-1]

    yield make
    for place in made:
        place.close()
