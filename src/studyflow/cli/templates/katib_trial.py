"""Run a training as Katib does: parameters in its arguments, metrics from the lines that it prints.

    python katib_trial.py loss=min accuracy=latest -- python train.py '--lr=${lr}'

Before `--` stand the metrics, and which value of each is the result: `min`, `max` or `latest`.
Behind it is the training's command, where `${NAME}` becomes the trial's parameter of that name; so
it does in environment variables. A line such as `loss=0.3 accuracy=0.9` is a report of each of
them, its step being how often that metric was printed before. The training's image must hold this
file and studyflow (the SDK alone, without its extras).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping

from studyflow import sdk

VALUE = re.compile(r"([\w|-]+)\s*=\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[Ee][+-]?\d+)?|nan|[+-]?inf)")
"""What Katib finds in a line, and values that are no finite numbers."""

RESULTS: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "latest": lambda values: values[-1],
}


def filled(text: str, params: Mapping[str, object]) -> str:
    """Return a text with each `${NAME}` of a parameter replaced by its value."""
    return re.sub(r"\$\{([^}]+)\}", lambda m: str(params.get(m[1], m[0])), text)


def main(arguments: list[str]) -> int:
    """Train, and return the training's exit code."""
    here = arguments.index("--")
    wanted = dict(text.rsplit("=", 1) for text in arguments[:here])
    params = sdk.current_trial().params
    seen: dict[str, list[float]] = {name: [] for name in wanted}
    with subprocess.Popen(
        [filled(word, params) for word in arguments[here + 1 :]],
        env={name: filled(value, params) for name, value in os.environ.items()},
        stdout=subprocess.PIPE,
        text=True,
    ) as training:
        assert training.stdout is not None
        for line in training.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            for name, value in VALUE.findall(line):
                if name in seen:
                    seen[name].append(float(value))
                    sdk.report(len(seen[name]) - 1, **{name: seen[name][-1]})
    if training.returncode == 0:
        sdk.finish(**{name: RESULTS[wanted[name]](found) for name, found in seen.items() if found})
    return training.returncode if training.returncode >= 0 else 128 - training.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
