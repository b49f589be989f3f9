"""Studyflow's sampler against its peers: problems, runs, report, latency.

    python -m benchmarks.samplers run --half report --samplers ours gp tpe --seeds 10 --to FILE
    python -m benchmarks.samplers report --half report FILE
    python -m benchmarks.samplers latency

Run from the repository's root. Everything uses one thread, which must be said before NumPy loads.
`run` works without studyflow, in the environment of a peer that has its own (benchmarks/README.md).
"""

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
