"""What counts as one of several processes of a training."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from studyflow.sdk.ranks import read_rank


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
