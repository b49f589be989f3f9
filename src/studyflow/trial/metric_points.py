"""What a script reports while it trains: one value of one metric, a line of a metrics file.

Standard library only: this module is part of every trial image.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from studyflow.errors import DocumentError
from studyflow.trial.fields import decode_float, encode_float, int64, metric_name
from studyflow.trial.seals import is_seal, seal_of

_METRIC: Final = "metric"
"""What is sealed."""


@dataclass(frozen=True, slots=True)
class MetricPoint:
    """One value of one metric while a trial trains."""

    name: str
    step: int
    value: float
    timestamp_ms: int
    """Milliseconds since the epoch, UTC: part of a point's identity in MLflow, so that sending it
    twice stores it once."""

    def to_json(self, key: str | None = None) -> str:
        """Return the point as one line of a metrics file, without the line end.

        Args:
            key: The attempt's, for the line's seal; `None` for one without.
        """
        values = [self.name, self.step, encode_float(self.value), self.timestamp_ms]
        if key is not None:
            values.append(seal_of(key, _METRIC, self.to_json()))
        return json.dumps(values, separators=(",", ":"))

    @classmethod
    def from_json(cls, line: str) -> MetricPoint:
        """Return the point written by `to_json`, with a seal or without.

        Raises:
            DocumentError: The line is something else, such as one torn by a kill.
        """
        return cls._read(line)[0]

    @classmethod
    def from_sealed(cls, line: str, key: str | None) -> MetricPoint | None:
        """Return the point if the attempt of a key wrote the line, else `None`.

        Args:
            line: The line.
            key: The attempt's; `None` to take any line.

        Raises:
            DocumentError: The line is something else, such as one torn by a kill.
        """
        point, seal = cls._read(line)
        is_own = key is None or is_seal(seal, key, _METRIC, point.to_json())
        return point if is_own else None

    @classmethod
    def _read(cls, line: str) -> tuple[MetricPoint, object]:
        """Return the point of a line, and what stands where its seal belongs."""
        try:
            name, step, value, timestamp_ms, *seals = json.loads(line)
            if len(seals) > 1:
                raise ValueError("more values than a point has")
            point = cls(metric_name(name), int64(step), decode_float(value), int64(timestamp_ms))
            return point, next(iter(seals), None)
        except (ValueError, TypeError, RecursionError) as error:
            raise DocumentError(f"Not a line of a metrics file: {line[:60]!r}.") from error
