"""Flows whose parameters keep their types wherever Prefect takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

_F = TypeVar("_F", bound=Callable[..., Any])


def typed(function: _F) -> _F:
    """Give a function its annotations as types.

    `flow.serve()` sends a flow to the process of its run by pickling it. Annotations are texts
    until somebody asks for types, and a pickled function has left behind the names in them.
    """
    function.__annotations__ = get_type_hints(function, include_extras=True)
    return function
