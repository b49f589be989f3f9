"""What counts as one of several processes, what it says, and what of its variables is handed on."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from studyflow.trial.launchers import (
    LAUNCHERS,
    Launcher,
    Rank,
    find_silence,
    is_set_by_launcher,
    read_rank,
)


def test_what_a_silent_process_says_is_found_in_a_log() -> None:
    said = Rank(1, 2, ("RANK", "WORLD_SIZE")).silence()
    log = f"epoch 0\n[default1]:{said}\nepoch 1\n"
    assert find_silence(log) == Rank(1, 2, ("RANK", "WORLD_SIZE"))
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
def test_what_is_about_one_process_is_its_launchers_word(name: str) -> None:
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


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda launcher: launcher.rank)
def test_a_script_never_inherits_the_rank_that_the_runner_has(launcher: Launcher) -> None:
    assert is_set_by_launcher(launcher.rank)


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2"}, (0, 2)),
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, (3, 4)),
        ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, (1, 2)),
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "2"}, (1, 2)),
        ({"SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"LOCAL_RANK": "1", "WORLD_SIZE": "2"}, (1, 2)),
        # The rank of a LoRA beside the variables of a launcher that sets others.
        ({"RANK": "8", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"}, (1, 2)),
        ({"RANK": "8", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "2"}, (0, 2)),
    ],
)
def test_a_rank_is_known_by_two_numbers_of_one_launcher(
    environment: Mapping[str, str], rank: tuple[int, int]
) -> None:
    found = read_rank(environment)
    assert found is not None
    assert (found.number, found.size) == rank


@pytest.mark.fault("F75")
@pytest.mark.parametrize("variables", [("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_NTASKS")])
@pytest.mark.parametrize(
    ("number", "size"),
    [
        ("8", None),
        ("1", ""),
        ("", "2"),
        ("0", "1"),
        ("8", "2"),
        ("2", "2"),
        ("1", "1"),
        ("abc", "2"),
        ("0.5", "2"),
        ("-1", "2"),
        ("1_0", "20"),
        ("\u0661", "2"),
        ("9" * 5000, "9" * 5001),
        ("1", "two"),
    ],
)
def test_numbers_that_do_not_fit_are_no_rank(
    variables: tuple[str, str], number: str, size: str | None
) -> None:
    given = dict(zip(variables, (number, size), strict=True))
    assert read_rank({name: value for name, value in given.items() if value is not None}) is None
