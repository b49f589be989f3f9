"""What a platform lets studies ask for: the administrator's settings, a file of its own.

A list names what is allowed, and `null` (or no entry) allows everything that the pod rules allow.
What belongs to studyflow's servers is allowed only where a list names it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from studyflow.spec.parts import Text
from studyflow.spec.pods.images import lies_in, prefix
from studyflow.spec.pods.quantities import amount
from studyflow.spec.values import broken_rule

PLATFORM_VARIABLE: Final = "STUDYFLOW_PLATFORM"
"""Environment variable that holds the path of the platform's file."""

TRIAL_ACCOUNTS: Final = ("studyflow-trial", "default")
"""Service accounts of the trials' namespace that carry no rights."""

SERVERS: Final[Mapping[str, str]] = {
    "Secret": "studyflow(-.*)?",
    "claim": "mlflow-artifacts|data-postgres-[0-9]+",
    "service account": "studyflow-(runner|worker|server)",
}
"""Patterns of whole names that belong to studyflow's servers, by kind."""

_MAX_NAMES: Final = ("cpu", "memory", "gpu", "ephemeral-storage")


def is_of_servers(kind: str, name: str) -> bool:
    """Whether a Secret, claim or service account belongs to studyflow's servers."""
    pattern = SERVERS.get(kind)
    return pattern is not None and re.fullmatch(pattern, name) is not None


def _name_pattern(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9.*-]{1,253}", text):
        raise broken_rule(
            "an entry must be a name of letters, digits, '-' and '.', where '*' stands for any "
            f"others, but it is {text!r}",
            "write it as `kubectl get` shows it, such as `team-a-*`",
        )
    return text


def _image_prefix(text: str) -> str:
    if prefix(text) is None:
        raise broken_rule(
            "an entry must be a registry or a folder of one, without tag and digest, but it is "
            f"{text!r}",
            "begin with the registry's host, such as `registry.example/team` or "
            "`docker.io/library`",
        )
    return text


def _resource(name: str) -> str:
    if name not in _MAX_NAMES and not re.fullmatch(r"[a-z0-9.-]+/[A-Za-z0-9._-]+", name):
        raise broken_rule(
            f"a limit must be of one of {', '.join(_MAX_NAMES)} or of a resource such as "
            f"nvidia.com/gpu, but it is of {name!r}",
            "`gpu` counts all resources with a '/' in their names together",
        )
    return name


def _quantity(text: str) -> str:
    if amount(text) is None:
        raise broken_rule(
            f"a limit must be an amount as Kubernetes writes it, but it is {text!r}",
            "such as 16, 500m or 64Gi",
        )
    return text


NamePattern = Annotated[str, AfterValidator(_name_pattern)]
ImagePrefix = Annotated[str, AfterValidator(_image_prefix)]
Quantity = Annotated[Text, AfterValidator(_quantity)]
ResourceName = Annotated[str, AfterValidator(_resource)]


class Section(BaseModel):
    """A part of the platform's file: frozen, and no key is silently ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class AllowedToleration(Section):
    """A taint that pods may tolerate."""

    key: str | None = Field(
        default=None, min_length=1, description="Key of the taint; `null` for every taint."
    )
    value: Text | None = Field(default=None, description="Its value; `null` for any.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Its effect; `null` for any."
    )

    def covers(self, toleration: Mapping[str, Any]) -> bool:
        """Whether nothing is tolerated beyond this taint."""
        if self.key is None:
            return self.effect in (None, toleration.get("effect"))
        is_any_value = toleration.get("operator", "Equal") != "Equal"
        return (
            toleration.get("key") == self.key
            and (
                self.value is None
                or (not is_any_value and toleration.get("value", "") == self.value)
            )
            and (self.effect is None or toleration.get("effect") == self.effect)
        )

    def __str__(self) -> str:
        value = "" if self.value is None else f"={self.value}"
        effect = "" if self.effect is None else f":{self.effect}"
        return f"{self.key or '*'}{value}{effect}"


class Platform(Section):
    """What studies may ask for here. The defaults hold where there is no file."""

    contact: str = Field(
        default="whoever runs the cluster",
        min_length=1,
        max_length=200,
        description="Whom a study's author asks, as it follows the word `ask`.",
        examples=["the platform team (#ml-platform)"],
    )
    service_accounts: tuple[NamePattern, ...] = Field(
        default=TRIAL_ACCOUNTS,
        description="Service accounts of trials' pods. They get no token either way.",
    )
    secrets: tuple[NamePattern, ...] | None = Field(
        default=None,
        description="Secrets that trials may use: as variables, as files or to pull images.",
    )
    claims: tuple[NamePattern, ...] | None = Field(
        default=None, description="PersistentVolumeClaims that trials may mount."
    )
    node_selectors: dict[str, tuple[Text, ...]] | None = Field(
        default=None,
        description="Node labels that trials may choose nodes by, with the values they may name; "
        "an empty list allows every value.",
    )
    tolerations: tuple[AllowedToleration, ...] | None = Field(
        default=None, description="Taints that trials may tolerate."
    )
    priority_classes: tuple[NamePattern, ...] | None = Field(
        default=None, description="PriorityClasses of trials, none of Kubernetes' own (system-*)."
    )
    runtime_classes: tuple[NamePattern, ...] | None = Field(
        default=None, description="RuntimeClasses of trials."
    )
    scheduler_names: tuple[NamePattern, ...] = Field(
        default=("default-scheduler",), description="Schedulers that trials may name."
    )
    queues: tuple[NamePattern, ...] | None = Field(
        default=None, description="Kueue's local queues that studies may wait in."
    )
    images: tuple[ImagePrefix, ...] | None = Field(
        default=None,
        description="Registries, and folders of registries, that images may come from. Whole "
        "names are compared: `registry.example/team` allows no `registry.example/team-b/x`.",
    )
    max_resources: dict[ResourceName, Quantity] = Field(
        default_factory=dict,
        description="Most that one trial may ask for: `cpu`, `memory`, `gpu`, `ephemeral-storage` "
        "or a resource's name, summed over its containers.",
    )
    extra_containers: bool = Field(
        default=True,
        description="Whether a pod may have containers beside the script's, such as a sidecar.",
    )

    def allows(self, kind: str, name: str) -> bool:
        """Whether the lists allow something by its name.

        Args:
            kind: One of the keys of `LISTS`, such as `Secret`.
            name: The name.
        """
        listed: tuple[str, ...] | None = getattr(self, LISTS[kind])
        if listed is not None and name in listed:
            return True
        if is_of_servers(kind, name):
            return False
        return listed is None or any(fnmatchcase(name, pattern) for pattern in listed)

    def allows_image(self, image: str) -> bool:
        """Whether an image comes from where images may come from."""
        return self.images is None or lies_in(image, self.images)

    def allows_toleration(self, toleration: Mapping[str, Any]) -> bool:
        """Whether a pod may tolerate this."""
        return self.tolerations is None or any(one.covers(toleration) for one in self.tolerations)

    def allows_node_label(self, key: str, values: Iterable[str] | None) -> bool:
        """Whether nodes may be chosen by a label.

        Args:
            key: The label.
            values: The values that the node must have one of; `None` when it is another condition.
        """
        if self.node_selectors is None:
            return True
        allowed = self.node_selectors.get(key)
        if allowed is None:
            return False
        return not allowed or (values is not None and set(values) <= set(allowed))

    def limits(self) -> dict[str, str]:
        """Return what is limited, and what is allowed of it, in words."""
        found = {
            _PLURALS[kind]: _listed(listed)
            for kind, field in LISTS.items()
            if (listed := getattr(self, field)) is not None
        }
        for kind in SERVERS:
            found.setdefault(_PLURALS[kind], "any but the servers'")
        if self.node_selectors is not None:
            found["node selectors"] = _listed(
                f"{key}={'|'.join(values) or '*'}" for key, values in self.node_selectors.items()
            )
        if self.tolerations is not None:
            found["tolerations"] = _listed(map(str, self.tolerations))
        if self.images is not None:
            found["images"] = _listed(self.images)
        if self.max_resources:
            most = (f"{name} {most}" for name, most in self.max_resources.items())
            found["resources of a trial"] = f"at most {_listed(most)}"
        if not self.extra_containers:
            found["extra containers"] = "none"
        return found

    def describe(self) -> str:
        """Return what is allowed, in two sentences: what is limited, and what is not."""
        limits = self.limits()
        rest = [name for name in _EVERYTHING if name not in limits]
        limited = "; ".join(f"{name}: {allowed}" for name, allowed in limits.items())
        return f"Allowed are {limited}. Not limited: {_listed(rest)}."


LISTS: Final[Mapping[str, str]] = {
    "service account": "service_accounts",
    "Secret": "secrets",
    "claim": "claims",
    "priority class": "priority_classes",
    "runtime class": "runtime_classes",
    "scheduler": "scheduler_names",
    "queue": "queues",
}
"""The platform's lists of names: its field by the kind of what is named."""

_PLURALS: Final[Mapping[str, str]] = {
    "service account": "service accounts",
    "Secret": "Secrets",
    "claim": "claims",
    "priority class": "priority classes",
    "runtime class": "runtime classes",
    "scheduler": "schedulers",
    "queue": "queues",
}


_EVERYTHING: Final = (
    *_PLURALS.values(),
    "node selectors",
    "tolerations",
    "images",
    "resources of a trial",
    "extra containers",
)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
