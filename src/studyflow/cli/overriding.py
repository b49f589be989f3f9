"""Options of one run that take the place of what its study file says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, get_args

import click

from studyflow.spec import SamplerName

_Command = Callable[..., Any]

_OPTIONS: Final = (
    click.option(
        "--gpu-hours",
        type=click.FloatRange(min=0, min_open=True),
        help="GPU-hours that the study may cost in all, over all its runs.",
    ),
    click.option(
        "--timeout-seconds",
        type=click.FloatRange(min=0, min_open=True),
        help="After this long, start no further trial.",
    ),
    click.option(
        "--sampler",
        type=click.Choice(get_args(SamplerName)),
        help="Sampler for further trials; overrides the study file.",
    ),
)


def override_options(command: _Command) -> _Command:
    """Add `--sampler`, `--timeout-seconds` and `--gpu-hours`, in this order."""
    for option in _OPTIONS:
        command = option(command)
    return command
