"""GPUs are found, counted and handed out."""

from __future__ import annotations

from pathlib import Path

import pytest

from studyflow.errors import ExecutorError
from studyflow.executors.local.gpus import (
    choose_gpus,
    count_slots,
    detect_gpus,
    parse_nvidia_smi,
    parse_visible,
)


@pytest.mark.parametrize(
    ("value", "gpus"),
    [
        ("0,1,2", ("0", "1", "2")),
        (" 3 , 1 ", ("3", "1")),
        ("GPU-8a56,MIG-GPU-8a56/1/0", ("GPU-8a56", "MIG-GPU-8a56/1/0")),
        ("0,-1,2", ("0",)),
        ("-1", ()),
        ("", ()),
        ("1,1", ("1",)),
    ],
)
def test_visible_devices_are_read_as_cuda_reads_them(value: str, gpus: tuple[str, ...]) -> None:
    assert parse_visible(value) == gpus


def test_the_listing_of_nvidia_smi_names_the_gpus() -> None:
    listing = (
        "GPU 0: NVIDIA H200 (UUID: GPU-0f3b)\n"
        "  MIG 1g.18gb     Device  0: (UUID: MIG-77)\n"
        "GPU 1: NVIDIA H200 (UUID: GPU-1f3b)\n"
    )
    assert parse_nvidia_smi(listing) == ("0", "1")
    assert parse_nvidia_smi("No devices were found\n") == ()


def test_the_variable_comes_before_the_driver() -> None:
    assert detect_gpus({"CUDA_VISIBLE_DEVICES": "4,5"}) == ("4", "5")


def test_a_machine_without_driver_has_no_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert detect_gpus({}) == ()


def test_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "nvidia-smi"
    stand_in.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA A100 (UUID: GPU-1)'\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    assert detect_gpus({}) == ("0",)


@pytest.mark.parametrize(
    ("gpus", "gpus_per_trial", "slots"),
    [("0123", 1, 4), ("0123", 2, 2), ("012", 2, 1), ("0123", 0, None), ("", 1, None)],
)
def test_gpus_limit_the_trials_at_once(gpus: str, gpus_per_trial: int, slots: int | None) -> None:
    assert count_slots(tuple(gpus), gpus_per_trial) == slots


def test_fewer_gpus_than_one_trial_needs_are_refused() -> None:
    with pytest.raises(ExecutorError, match="needs 4 GPUs and this machine offers 2"):
        count_slots(("0", "1"), 4)


def test_free_gpus_are_chosen() -> None:
    assert choose_gpus("0123", "02", 2) == ("1", "3")
    assert choose_gpus("0123", "02", 3) is None
    assert choose_gpus("01", (), 1) == ("0",)
