"""Names that public classes had before: they answer for one version, with a warning.

Every layer imports this package, so these helpers are here. Standard library only.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

Translation = Callable[[Any], Any]
"""From the value that an argument had under its former name to the present one."""


class FormerProperty:
    """Reads an attribute under its former name, that of this property.

    Args:
        present: The attribute's present name; dots lead to attributes of attributes.
    """

    def __init__(self, present: str) -> None:
        self._present = present
        self._read = operator.attrgetter(present)

    def __set_name__(self, owner: type, name: str) -> None:
        self._former = name

    def __get__(self, owner: object, kind: type) -> Any:
        if owner is None:
            return self
        message = f"{kind.__name__}.{self._former} is now `{self._present}`."
        warnings.warn(message, DeprecationWarning, stacklevel=2)
        return self._read(owner)


def former_arguments(
    **present: str | tuple[str, Translation],
) -> Callable[[type[T]], type[T]]:
    """Return a class decorator: the class is made from former names of its arguments, too.

    Args:
        present: By former name the present one, and how the value is translated where it was
            another.
    """

    def decorate(owner: type[T]) -> type[T]:
        make: Callable[..., None] = owner.__init__

        @functools.wraps(make)
        def make_from_either(self: T, *args: Any, **arguments: Any) -> None:
            for former in present.keys() & arguments.keys():
                _rename(owner.__name__, arguments, former, present[former])
            make(self, *args, **arguments)

        setattr(owner, "__init__", make_from_either)  # noqa: B010 - mypy takes no other form
        return owner

    return decorate


def _rename(
    owner: str, arguments: dict[str, Any], former: str, present: str | tuple[str, Translation]
) -> None:
    name, translate = present if isinstance(present, tuple) else (present, _same)
    if name in arguments:
        raise TypeError(f"{owner}: {former} is the former name of {name}; give only {name}.")
    message = f"{owner}({former}=...) is now {owner}({name}=...)."
    warnings.warn(message, DeprecationWarning, stacklevel=3)
    arguments[name] = translate(arguments.pop(former))


def _same(value: Any) -> Any:
    return value
