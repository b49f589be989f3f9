"""What of a launcher's words is handed on, and what silent processes say."""

from __future__ import annotations

import pytest

from studyflow.executors.launchers import SilentProcess, find_silence, is_set_by_launcher
from studyflow.sdk.ranks import Rank


def test_what_a_silent_process_says_is_found_in_a_log() -> None:
    said = Rank(1, 2, ("RANK", "WORLD_SIZE")).silence()
    log = f"epoch 0\n[default1]:{said}\nepoch 1\n"
    assert find_silence(log) == SilentProcess(1, 2, "RANK", "WORLD_SIZE")
    assert find_silence("studyflow: this process is rank x of y (A and B); rank 0 reports") is None


@pytest.mark.parametrize(
    "name",
    [
        "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE",
        "ROLE_RANK", "ROLE_WORLD_SIZE", "ROLE_NAME", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT",
        "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "OMPI_COMM_WORLD_RANK",
        "OMPI_UNIVERSE_SIZE", "OMPI_MCA_orte_hnp_uri", "PMI_RANK", "PMI_FD", "PMIX_NAMESPACE",
        "HOROVOD_RANK", "HOROVOD_LOCAL_RANK", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID",
    ],
)  # fmt: skip
def test_the_place_of_one_process_is_its_launchers_word(name: str) -> None:
    assert is_set_by_launcher(name)


@pytest.mark.parametrize(
    "name",
    [
        "LORA_RANK", "RANKS", "MY_WORLD_SIZE", "SLURM_JOB_ID", "SLURM_CPUS_PER_TASK",
        "OMPI_MCA_btl", "HOROVOD_FUSION_THRESHOLD", "HYDRA_FULL_ERROR", "MASTER_KEY", "PATH",
        "NCCL_DEBUG", "CUDA_VISIBLE_DEVICES",
    ],
)  # fmt: skip
def test_other_variables_are_handed_on(name: str) -> None:
    assert not is_set_by_launcher(name)
