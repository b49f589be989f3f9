"""Trials on real GPUs; skipped where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.executors.local import LocalExecutor
from studyflow.executors.local.gpus import detect_gpus
from studyflow.testing.executor_contract import Watch
from studyflow.trial import Cause, Trial

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not detect_gpus(), reason="no NVIDIA GPU"),
    pytest.mark.timeout(300),
]


def run(folder: Path, source: str) -> tuple[LocalExecutor, dict[str, float], Cause]:
    (folder / "train.py").write_text(source)
    executor = LocalExecutor(
        "gpu", ["python", "train.py"], root=folder / "root", cwd=folder, gpus_per_trial=1
    )
    assert executor.traits.slots == len(detect_gpus())
    attempt = executor.submit(Trial("gpu", 0, {}, metrics=("loss",)))
    outcome = Watch(executor, 240.0).until_ended(attempt).outcome
    executor.close()
    assert outcome is not None
    return executor, dict(outcome.metrics), outcome.cause


def test_a_trial_sees_exactly_its_cards(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    _, metrics, cause = run(
        tmp_path,
        "import torch\nfrom studyflow import sdk\n"
        "x = torch.ones(8, device='cuda')\n"
        "sdk.finish(loss=x.sum(), gpus=torch.cuda.device_count())\n",
    )
    assert cause is Cause.OK
    assert metrics == {"loss": 8.0, "gpus": 1.0}


@pytest.mark.parametrize("with_sdk", [True, False])
def test_a_trial_that_needs_more_memory_than_the_card_has_is_cuda_oom(
    tmp_path: Path, with_sdk: bool
) -> None:
    pytest.importorskip("torch")
    hook = "from studyflow import sdk\nsdk.current_trial()\n" if with_sdk else ""
    _, _, cause = run(tmp_path, f"{hook}import torch\ntorch.empty(1 << 45, device='cuda')\n")
    assert cause is Cause.CUDA_OOM
