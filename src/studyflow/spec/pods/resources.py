"""What one trial asks for over all containers of its pod, and whether the platform allows that."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from functools import partial
from typing import Any, Final

from studyflow.spec.pods.ours import CONTAINER
from studyflow.spec.pods.quantities import amount
from studyflow.spec.pods.walking import View, forbid
from studyflow.spec.problems import BrokenRule, Path

Containers = Sequence[Mapping[str, Any]]

_BYTES: Final = ("memory", "ephemeral-storage")


def judge_resources(pod: Any, place: Path, fields: Path, view: View) -> Iterator[BrokenRule]:
    """Yield what a pod asks for beyond what one trial may have.

    A limit counts, or the request where that is more. Containers that run beside each other are
    summed; init containers run before them, one at a time, unless they are sidecars.

    Args:
        pod: The pod: containers and volumes.
        place: Where the pod stands.
        fields: Where the script's own resources stand.
        view: Holds the platform.
    """
    if not view.platform.max_resources or not isinstance(pod, Mapping):
        return
    beside, before = _mappings(pod.get("containers")), _mappings(pod.get("initContainers"))
    # Whoever fixes a file looks at the field first, and at the patch when only that has containers.
    is_script_alone = all(one.get("name") == CONTAINER for one in (*beside, *before))
    path = fields if is_script_alone else place
    for name, most in view.platform.max_resources.items():
        setting = f"max_resources.{name}"
        unlimited = [one for one in (*beside, *before) if _asked(one, name) is None]
        if unlimited and name in ("cpu", "memory"):
            who = str(unlimited[0].get("name"))[:63]
            message = (
                f"a trial must say how much {name} it needs, at most {most} here, but the "
                f"container {who!r} has no limit"
            )
            yield forbid(path, message, view, setting)
            continue
        total = _total(beside, before, partial(_asked, name=name))
        if name == "ephemeral-storage":
            total = max(total, _folders(pod.get("volumes")))
        if total > (amount(most) or 0):
            shown = _shown(total, name)
            message = f"a trial must ask for at most {most} of {name}, but it asks for {shown}"
            yield forbid(path, message, view, setting)


def pod_requests(pod: Mapping[str, Any]) -> dict[str, str]:
    """Return what a pod asks for over all of its containers, by resource, as the scheduler counts.

    An amount that only one container asks for stays as it is written.
    """
    beside, before = _mappings(pod.get("containers")), _mappings(pod.get("initContainers"))
    asked = [_requested(one) for one in (*beside, *before)]
    found: dict[str, str] = {}
    for name in dict.fromkeys(name for one in asked for name in one):
        written = [one[name] for one in asked if name in one]
        total = _total(beside, before, partial(_requested_amount, name=name))
        same = next((text for text in written if amount(text) == total), None)
        found[name] = same or _quantity(total, name)
    return found


def _requested(container: Mapping[str, Any]) -> dict[str, str]:
    """Return a container's requests; a limit is one, too, where no request is beside it."""
    resources = container.get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    given = [resources.get("limits"), resources.get("requests")]
    return {str(k): str(v) for one in given if isinstance(one, Mapping) for k, v in one.items()}


def _requested_amount(container: Mapping[str, Any], name: str) -> Decimal | None:
    return amount(_requested(container).get(name))


def _quantity(total: Decimal, name: str) -> str:
    """Return an amount as Kubernetes writes it, in the largest unit in which it is whole."""
    for unit in ("Ti", "Gi", "Mi", "Ki") if name in _BYTES else ():
        number = total / (amount(f"1{unit}") or 1)
        if number >= 1 and number == number.to_integral_value():
            return f"{number:f}".partition(".")[0] + unit
    if total == total.to_integral_value():
        return f"{total.to_integral_value():f}"
    thousandths = (total * 1000).to_integral_value(ROUND_CEILING)
    return f"{thousandths:f}m"


def _shown(total: Decimal, name: str) -> str:
    if total.is_infinite():
        return "a folder without a sizeLimit"
    if name in _BYTES:
        return f"{float(total / 1024**3):.6g}Gi"
    return f"{float(total):.6g}"


def _mappings(value: Any) -> Containers:
    return [one for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _total(
    beside: Containers, before: Containers, amount_of: Callable[[Mapping[str, Any]], Decimal | None]
) -> Decimal:
    """Return an amount over all containers of a pod, as the scheduler counts."""
    sidecars = [one for one in before if one.get("restartPolicy") == "Always"]
    running = sum((amount_of(one) or Decimal(0) for one in (*beside, *sidecars)), Decimal(0))
    starting, begun = Decimal(0), Decimal(0)
    for one in before:
        asked = amount_of(one) or Decimal(0)
        starting = max(starting, begun + asked)
        if one.get("restartPolicy") == "Always":
            begun += asked
    return max(running, starting)


def _asked(container: Mapping[str, Any], name: str) -> Decimal | None:
    """Return how much a container may use; `None` when it has no limit."""
    resources = container.get("resources")
    resources = resources if isinstance(resources, Mapping) else {}
    limits, requests = resources.get("limits"), resources.get("requests")
    limited = _amount_of(limits, name)
    requested = _amount_of(requests, name)
    if limited is None:
        return None if name in ("cpu", "memory") else requested
    return max(limited, requested or Decimal(0))


def _amount_of(amounts: Any, name: str) -> Decimal | None:
    if not isinstance(amounts, Mapping):
        return None
    if name != "gpu":
        return amount(amounts.get(name))
    # Whatever its maker calls it: a study chooses the name (`gpu_resource`).
    counted = [amount(given) for key, given in amounts.items() if "/" in str(key)]
    return sum((one for one in counted if one is not None), Decimal(0)) if counted else None


def _folders(volumes: Any) -> Decimal:
    """Return how much disk the folders of a pod may use together, in bytes."""
    total = Decimal(0)
    for volume in _mappings(volumes):
        folder = volume.get("emptyDir")
        if isinstance(folder, Mapping) and folder.get("medium") != "Memory":
            total += amount(folder.get("sizeLimit")) or Decimal("Infinity")
    return total
