"""Suggestions made while trials run, by a process beside the runner.

* `policy`: what to prepare, and when a suggestion is good enough; pure.
* `documents`: what runner and process tell each other.
* `chain`: the suggestions of some trials that follow each other, each aware of the others.
* `process`: the process, a chain behind two pipes; `worker` is its handle in the runner.
* `source`: the runner's side: what it has told, and what is ready.
* `sampler`: hands what is ready to Optuna; `opening` puts all of it together for a runner.

docs/decisions/0020-suggestions-ahead.md says why.
"""
