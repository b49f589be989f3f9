"""Study files, written so that reading them again gives an equal spec."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from studyflow.spec.scalars import PATTERNS, STR

if TYPE_CHECKING:
    from studyflow.spec.models import StudySpec


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or YAML 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's signature
        return True


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes line ends other than "\n" as they are, and reads them as "\n".
    is_plain = text.replace("\n", "").isprintable()
    return dumper.represent_scalar(STR, text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)
for _tag, _pattern, _first in PATTERNS:
    _Dumper.add_implicit_resolver(_tag, _pattern, list(_first))


def write_study(spec: StudySpec) -> str:
    """Return the study as YAML; see `StudySpec.to_yaml`."""
    document = spec.model_dump(mode="json", exclude_defaults=True)
    # A sampler's arguments say little without the sampler's name, default or not.
    for part in ("sampler", "pruner"):
        if part in document:
            document[part] = {"type": getattr(spec, part).type, **document[part]}
    for parameter in document["search_space"].values():
        if "when" in parameter:
            parameter["when"] = parameter.pop("when")  # Read last, as people write it.
    return yaml.dump(
        document,
        Dumper=_Dumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=None,
        width=100,
    )
