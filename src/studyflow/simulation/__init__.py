"""Studies in virtual time: the real loop, sampler and pruner, and trials that only move a clock.

    from studyflow.simulation import Cluster, Training, simulate

    def workload(params, seed):
        noise = np.random.default_rng(seed).normal(0, 0.01, 27)
        values = params["x"] ** 2 + 1 / np.arange(1, 28) + noise
        return Training(values, seconds=60.0)  # 27 steps of a minute, values of the first objective

    cluster = Cluster(slots=4, startup_seconds=30.0, checkpoint_every=1, losses_per_hour=0.02)
    found = simulate(spec, workload, cluster, seed=0)
    found.seconds, found.unit_seconds       # how long, and GPU-seconds (or seconds of places)
    found.best_value                        # of the complete trials
    found.value_after(3600.0)               # the best one known when so many GPU-seconds were spent
    found.unit_seconds_until(0.1)           # GPU-seconds until a complete trial was this good
    found.records                           # every trial as a study has it, with its ledger's rows

`spec` is a `StudySpec`; its sampler, pruner, `budget` and `trial.budget` count as in a real run,
and `seed` replaces the sampler's. `make_sampler` and `pruner` replace what the file names, for some
that have no name yet. The same arguments give the same study, trial by trial: a suggestion takes no
virtual time unless `Cluster.suggestion_seconds` says so, and no limit on its real time is reached.
A study of 100 trials of 27 steps takes about a second of CPU, and what its sampler takes besides.

A trial's training is made once, by its parameters and a seed of its own, and belongs to the trial:
an attempt after a loss or a pause goes on behind the last published checkpoint, or from the
beginning without `Cluster.checkpoint_every`. So the same values are reported at the same steps.

clock.py      virtual time
workload.py   what a trial does: values by step, seconds by step, GPUs
cluster.py    where trials run: slots, starts, restarts, losses
course.py     what one attempt does, and when; pure
executor.py   `SimulatedExecutor`, an `Executor`
run.py        `simulate`
result.py     what came out
"""

from studyflow.simulation.clock import VirtualClock
from studyflow.simulation.cluster import Cluster
from studyflow.simulation.executor import SimulatedExecutor, SimulatedMachine
from studyflow.simulation.result import Simulation, Told
from studyflow.simulation.run import simulate
from studyflow.simulation.workload import Params, Training, Workload

__all__ = [
    "Cluster",
    "Params",
    "SimulatedExecutor",
    "SimulatedMachine",
    "Simulation",
    "Told",
    "Training",
    "VirtualClock",
    "Workload",
    "simulate",
]
