"""MLflow's client as far as experiments and runs need it, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any


class Refusal(Exception):
    """An error as MLflow raises it: a code, and the status of the answer."""

    def __init__(self, error_code: str, status: int = 400) -> None:
        super().__init__(f"refused: {error_code}")
        self.error_code = error_code
        self.status = status

    def get_http_status_code(self) -> int:
        return self.status


class Page(list[Any]):
    """The only page of an answer."""

    token = None


class FakeClient:
    """Keeps one experiment and its runs; `before` may act as somebody else between two calls."""

    def __init__(self) -> None:
        self.experiment: SimpleNamespace | None = None
        self.runs: dict[str, SimpleNamespace] = {}
        self.calls: list[str] = []
        self.before: Callable[[str], None] = lambda method: None

    def delete_experiment(self) -> None:
        assert self.experiment is not None
        self.experiment.lifecycle_stage = "deleted"
        for run in self.runs.values():
            run.info.lifecycle_stage = "deleted"

    def add_run(self, name: str, tags: Mapping[str, str], start_time: int = 0) -> Any:
        info = SimpleNamespace(
            run_id=f"run-{len(self.runs)}",
            run_name=name,
            start_time=start_time,
            lifecycle_stage="active",
        )
        data = SimpleNamespace(tags=dict(tags), metrics={}, params={})
        self.runs[info.run_id] = SimpleNamespace(info=info, data=data)
        return self.runs[info.run_id]

    def tags_of(self, run_id: str) -> dict[str, str]:
        tags: dict[str, str] = self.runs[run_id].data.tags
        return tags

    # What MLflow's client has

    def get_experiment_by_name(self, name: str) -> Any:
        self._called("get_experiment_by_name")
        return self.experiment

    def get_experiment(self, experiment_id: str) -> Any:
        self._called("get_experiment")
        return self.experiment

    def create_experiment(self, name: str, **options: Any) -> str:
        self._called("create_experiment")
        if self.experiment is not None:
            raise Refusal("RESOURCE_ALREADY_EXISTS")
        self.experiment = SimpleNamespace(
            experiment_id="1", lifecycle_stage="active", tags=dict(options["tags"])
        )
        return "1"

    def restore_experiment(self, experiment_id: str) -> None:
        self._called("restore_experiment")
        assert self.experiment is not None
        self.experiment.lifecycle_stage = "active"
        for run in self.runs.values():
            run.info.lifecycle_stage = "active"

    def set_experiment_tag(self, experiment_id: str, key: str, value: str) -> None:
        assert self.experiment is not None
        self.experiment.tags[key] = value

    def search_runs(self, experiments: list[str], text: str, **options: Any) -> Page:
        self._called("search_runs")
        wanted = [clause.replace("`", "").split(" = ") for clause in text.split(" and ")]
        return Page(
            run
            for run in self.runs.values()
            if run.info.lifecycle_stage == "active"
            and all(
                run.data.tags.get(key.removeprefix("tags.")) == value.strip("'")
                for key, value in wanted
            )
        )

    def create_run(
        self, experiment: str, *, start_time: int, tags: Mapping[str, str], run_name: str
    ) -> Any:
        self._called("create_run")
        return self.add_run(run_name, tags, start_time)

    def get_run(self, run_id: str) -> Any:
        self._called("get_run")
        if run_id not in self.runs:
            raise Refusal("RESOURCE_DOES_NOT_EXIST", 404)
        return self.runs[run_id]

    def delete_run(self, run_id: str) -> None:
        self.runs[run_id].info.lifecycle_stage = "deleted"

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.runs[run_id].data.tags[key] = value

    def _called(self, method: str) -> None:
        self.calls.append(method)
        self.before(method)
