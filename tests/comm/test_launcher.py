"""What the environment of a process says about its launcher."""

import pytest

from comm.launcher import (
    ends_the_job,
    flag_of_srun,
    is_launched,
    launched_rank,
    launched_ranks,
    may_have_others,
)


@pytest.mark.parametrize(
    ("environment", "ranks"),
    [
        ({}, 1),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, 4),
        ({"PMI_SIZE": "3"}, 3),
        ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_NTASKS": "8"}, 8),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, 1),  # a batch script without srun
        (
            {"OMPI_COMM_WORLD_SIZE": "4", "SLURM_STEP_NUM_TASKS": "2"},
            4,
        ),  # mpirun started its daemons with srun
    ],
)
def test_launched_ranks_reads_the_launcher(environment: dict[str, str], ranks: int) -> None:
    assert launched_ranks(environment) == ranks


@pytest.mark.parametrize(
    ("environment", "rank"),
    [
        ({}, 0),
        ({"OMPI_COMM_WORLD_RANK": "3", "SLURM_PROCID": "0"}, 3),
        ({"PMI_RANK": "2"}, 2),
        ({"SLURM_PROCID": "1"}, 1),
        ({"PMI_RANK": "none"}, 0),
    ],
)
def test_launched_rank_reads_the_launcher(environment: dict[str, str], rank: int) -> None:
    assert launched_rank(environment) == rank


@pytest.mark.parametrize(
    ("environment", "launched", "others"),
    [
        ({}, False, False),
        ({"SLURM_NTASKS": "8"}, False, False),
        ({"OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"}, True, False),
        ({"PMI_SIZE": "2"}, True, True),
        ({"PMIX_RANK": "0"}, True, True),  # how many there are only MPI learns
    ],
)
def test_mpi_is_wanted_where_a_launcher_may_have_started_others(
    environment: dict[str, str], launched: bool, others: bool
) -> None:
    assert (is_launched(environment), may_have_others(environment)) == (launched, others)


def test_mpirun_ends_the_job_unless_told_to_survive_lost_ranks() -> None:
    assert ends_the_job({"PRTE_LAUNCHED": "1"}) and not ends_the_job({})
    assert not ends_the_job({"PRTE_LAUNCHED": "1", "OMPI_MCA_mpi_ft_enable": "1"})


@pytest.mark.parametrize(
    ("environment", "library", "flag"),
    [
        ({"SLURM_STEP_NUM_TASKS": "2"}, "Open MPI v5.0.8", "--mpi=pmix"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "MPICH 4.3.0", "--mpi=pmi2"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "Intel(R) MPI Library 2021.13", "--mpi=pmi2"),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "Some MPI 1.0", ""),
        ({"SLURM_STEP_NUM_TASKS": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "0"}, "MPICH 4.3.0", ""),
        ({"SLURM_STEP_NUM_TASKS": "2", "MPI_LOCALRANKID": "0"}, "Open MPI v5.0.8", ""),
        ({}, "Open MPI v5.0.8", ""),
    ],
)
def test_the_flag_that_srun_needs_is_that_of_the_mpi(
    environment: dict[str, str], library: str, flag: str
) -> None:
    assert flag_of_srun(library, environment) == flag
