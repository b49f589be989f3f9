"""Rules for parts of a pod's manifest, put together from rules for their parts.

A rule looks at one value and yields what is wrong with it and below. A mapping has a table of the
fields that a study may set: a field that no table names is refused, so a field that a later
Kubernetes invents is not a way around the rules. A list of parts that have names is merged by them,
so two parts of one name are refused.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from studyflow.reasons import Code
from studyflow.spec.pods.looking import entries_of
from studyflow.spec.pods.platform import Platform
from studyflow.spec.pods.quantities import amount
from studyflow.spec.problems import BrokenRule, Path, suggest_name
from studyflow.spec.translation import show_value


@dataclass(frozen=True, slots=True)
class View:
    """What a rule knows beside the value that it looks at."""

    platform: Platform
    is_finished: bool = False
    """Whether it looks at the finished template of a pod, in which studyflow's own parts stand, and
    not at what a study file adds to it."""
    deadline_seconds: int | None = None
    """The pod's own deadline; `None` without one."""
    is_script: bool = False
    """Whether it looks at the container that runs the script."""
    is_init: bool = False
    """Whether it looks at an init container."""
    own_labels: frozenset[tuple[str, str]] = frozenset()
    """Labels and annotations that studyflow has set."""
    trusted_image: str | None = None
    """An image that was judged by another name: the file's own, by its digest."""


Rule = Callable[[Any, Path, View], Iterator[BrokenRule]]
Table = Mapping[str, Rule]

_PART_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)
_OBJECT_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?\Z", re.ASCII)

DEPTH_LIMIT: Final = 30
"""Deepest nesting of what is judged; a pod's manifest needs a dozen levels."""


def refuse(path: Path, message: str, hint: str, *, is_about_key: bool = False) -> BrokenRule:
    """Return the broken rule that no trial's pod may have this."""
    return BrokenRule(path, message, hint, is_about_key, Code.POD_FORBIDDEN)


def forbid(path: Path, message: str, view: View, setting: str) -> BrokenRule:
    """Return the broken rule that this platform does not allow something.

    Args:
        path: The value.
        message: Rule and value.
        view: Says whom to ask.
        setting: The entry of the platform's file that would allow it.
    """
    hint = f"ask {view.platform.contact}: `{setting}` in the platform's file can allow it"
    return BrokenRule(path, message, hint, code=Code.PLATFORM_FORBIDS)


def show(value: Any) -> str:
    """Return a value as a message shows it: short, and without what may be long or private."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return repr(value if len(value) <= 60 else f"{value[:57]}...")
    return show_value(value)


def _wrong_form(value: Any, path: Path, form: str) -> BrokenRule:
    return refuse(path, f"must be {form}, but it is {show(value)}", f"write {form}")


def mapping(table: Table, what: str) -> Rule:
    """Return the rule for a mapping whose fields have rules of their own.

    Args:
        table: The fields.
        what: What the mapping is, such as "a volume".
    """

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        if not isinstance(value, Mapping):
            yield _wrong_form(value, path, "a mapping")
            return
        for key, item in value.items():
            below = (*path, key if isinstance(key, str) else repr(key))
            if not isinstance(key, str):
                yield refuse(path, f"a key must be a text, but it is {show(key)}", "quote it")
            elif key.startswith("$"):
                yield _directive(key, below)
            elif key in table:
                yield from table[key](item, below, view)
            else:
                yield _unknown(key, below, table, what)

    return rule


def _directive(key: str, path: Path) -> BrokenRule:
    return refuse(
        path,
        f"a patch must not hold directives, but {key[:60]!r} is one",
        "name only what is to be added or changed",
        is_about_key=True,
    )


def _unknown(key: str, path: Path, table: Table, what: str) -> BrokenRule:
    # Kubernetes' names differ by case alone from what an attentive reader takes for them.
    twin = next((name for name in table if name.lower() == key.lower()), None)
    close = twin or suggest_name(key, table)
    hint = f"did you mean {close!r}?" if close else f"a study may set {', '.join(sorted(table))}"
    return refuse(
        path,
        f"{what} must hold what a study may set, but it holds {key[:60]!r}",
        hint,
        is_about_key=True,
    )


def items(rule: Rule) -> Rule:
    """Return the rule for a list whose entries have this one."""

    def listed(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        if not isinstance(value, list | tuple):
            yield _wrong_form(value, path, "a list")
            return
        for i, item in enumerate(value):
            yield from rule(item, (*path, i), view)

    return listed


def named_items(rule: Rule, key: str = "name") -> Rule:
    """Return the rule for a list whose entries differ in a field that each of them has."""

    def listed(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        yield from items(rule)(value, path, view)
        yield from _twins(value, path, key)

    return listed


def _twins(value: Any, path: Path, key: str) -> Iterator[BrokenRule]:
    seen: set[str] = set()
    for i, item in enumerate(entries_of(value)):
        if not isinstance(item, Mapping):
            continue
        name = item.get(key)
        if name is None:
            yield refuse((*path, i), f"an entry must have a {key}, but it has none", f"add {key}")
        elif isinstance(name, str) and name in seen:
            hint = "drop one of them"
            message = f"entries must differ in {key}, but {show(name)} stands twice"
            yield refuse((*path, i, key), message, hint)
        if isinstance(name, str):
            seen.add(name)


def optional(rule: Rule) -> Rule:
    """Return the rule that also takes `null`, which removes what the pod has without it."""

    def nullable(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        if value is not None:
            yield from rule(value, path, view)

    return nullable


def text(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    """Look for something else than a text."""
    if not isinstance(value, str):
        yield _wrong_form(value, path, "a text")


def flag(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    """Look for something else than true or false."""
    if not isinstance(value, bool):
        yield _wrong_form(value, path, "true or false")


def whole(at_least: int, why: str = "", *, at_most: int = 2**63 - 1) -> Rule:
    """Return the rule for a whole number.

    Args:
        at_least: Smallest number.
        why: What is wrong with a smaller one, for the hint.
        at_most: Largest number.
    """

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        if isinstance(value, bool) or not isinstance(value, int):
            yield _wrong_form(value, path, "a whole number")
        elif not at_least <= value <= at_most:
            message = f"must be from {at_least} to {at_most}, but it is {value}"
            yield refuse(path, message, why or "choose a number between them")

    return rule


def quantity(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
    """Look for something else than an amount."""
    if amount(value) is None:
        yield refuse(
            path,
            f"must be an amount as Kubernetes writes it, but it is {show(value)}",
            "such as 2, 500m or 16Gi",
        )


def one_of(choices: Collection[str], hint: str = "") -> Rule:
    """Return the rule for a text that is one of a few."""

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        if not isinstance(value, str) or value not in choices:
            listed = " or ".join(repr(choice) for choice in choices)
            yield refuse(path, f"must be {listed}, but it is {show(value)}", hint or "choose one")

    return rule


def only(expected: bool | int | str, hint: str) -> Rule:
    """Return the rule for a field that every trial's pod has with this value."""

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        if type(value) is not type(expected) or value != expected:
            wanted = show(expected)
            message = f"must be {wanted} in every trial's pod, but it is {show(value)}"
            yield refuse(path, message, hint)

    return rule


def refused(what: str, hint: str) -> Rule:
    """Return the rule for a field that no study sets.

    Args:
        what: What must not be, such as "a trial's pod must not name its node".
        hint: What to do instead.
    """

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        yield refuse(path, f"{what}, but {path[-1]} is {show(value)}", hint, is_about_key=True)

    return rule


def own(hint: str, rule: Rule) -> Rule:
    """Return the rule for what studyflow sets itself: not a study's, and fine in a finished pod.

    Args:
        hint: The field of the study file that sets it.
        rule: What the finished template must keep.
    """
    patched = refused("studyflow sets this itself", hint)

    def either(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        yield from (rule if view.is_finished else patched)(value, path, view)

    return either


def anything(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for directives of a patch, and for what is no JSON."""
    if len(path) > DEPTH_LIMIT:
        yield refuse(path[:8], "values must not nest so deep, but these do", "take levels out")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str):
                yield refuse(path, f"a key must be a text, but it is {show(key)}", "quote it")
            elif key.startswith("$"):
                yield _directive(key, (*path, key))
            else:
                yield from anything(item, (*path, key), view)
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from anything(item, (*path, i), view)
    elif isinstance(value, float) and not math.isfinite(value):
        yield refuse(path, f"a number must be finite, but it is {value!r}", "write a number")
    elif not (value is None or isinstance(value, str | bool | int | float)):
        kind = type(value).__name__
        yield refuse(path, f"a value must be plain YAML, but it is a {kind}", "write it plainly")


def a_mapping(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
    """Look for something else than a mapping, and for directives in it."""
    if isinstance(value, Mapping):
        yield from anything(value, path, view)
    else:
        yield _wrong_form(value, path, "a mapping")


def part_name(what: str) -> Rule:
    """Return the rule for the name of a part of a pod.

    Args:
        what: What is named, such as "a volume".
    """

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:  # noqa: ARG001
        if not isinstance(value, str) or _PART_NAME.match(value) is None:
            hint = "use at most 63 small letters, digits and '-'"
            yield refuse(path, f"must be the name of {what}, but it is {show(value)}", hint)

    return rule


def allowed_name(kind: str, setting: str) -> Rule:
    """Return the rule for the name of something that the platform allows by name.

    Args:
        kind: What is named, as `Platform.allows` takes it.
        setting: The platform's entry.
    """

    def rule(value: Any, path: Path, view: View) -> Iterator[BrokenRule]:
        if not isinstance(value, str) or _OBJECT_NAME.match(value) is None:
            message = f"must be the name of a {kind}, but it is {show(value)}"
            yield refuse(path, message, "write it as `kubectl get` shows it, in small letters")
        elif not view.platform.allows(kind, value):
            listed = getattr(view.platform, setting)
            names = "any but the servers'" if listed is None else " or ".join(listed) or "none"
            message = f"the {kind} must be one that trials may use ({names}), but it is {value!r}"
            yield forbid(path, message, view, setting)

    return rule
