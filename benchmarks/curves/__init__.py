"""Learning curves: how well they are forecast, and what stopping trials early saves.

    python -m benchmarks.curves run --half report --seeds 3 --to FILE
    python -m benchmarks.curves report --half report FILE
    python -m benchmarks.curves.calibration --half report

Run from the repository's root. Studies run in virtual time, by studyflow's real loop.

families.py   made curves: power laws, exponentials, crossing, late, noisy, diverging, costly
trainings.py  small real trainings, each configuration trained once and kept as a curve
tasks.py      both as one thing: a search space and what its trials do
runner.py     runs of a rule on a task, appended to a file as they finish
report.py     GPU-time to a quality and regret, as ratios to our sampler with full trainings
"""
