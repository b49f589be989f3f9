"""Runs attempts as processes of this machine.

One folder below the study's root holds all there is to know about an attempt, so that any runner on
this machine can go on where a killed one stopped:

    root/place                               what tells this folder from those of other machines
    root/keys.json                           the secret from which the keys of attempts are made
    root/open/<number>-<attempt>             one empty file for each attempt that is not forgotten
    root/trials/<number>/checkpoints/        a folder for each attempt; see `sdk/checkpoints.py`
    root/trials/<number>/attempt-<attempt>/
        trial.json     the `Trial` as the script gets it
        launch.json    what runs, on which GPUs, how long
        lock  pid.json  exit.json  stop.json     see `supervisor/`
        log.txt        standard output and standard error, as they came
        metrics.jsonl  outcome.json  artifacts/  what the script reports, by `studyflow.sdk`
        work/          the script's working folder

The attempt's folder is made complete under another name and then renamed: that rename is the one
moment when the attempt begins to exist. A small supervisor process runs the script, and the
kernel's lock on `lock` tells whether it lives; see there for how the process tree is kept together.

What a runner killed at any moment leaves, and who repairs it:

- before the rename: nothing but a hidden folder; the attempt does not exist;
- before the supervisor started the script: the attempt is pending, and the next `submit` or `poll`
  starts it; should two do so, the lock lets one script run;
- later: nothing is missing. A supervisor killed by force is found by its free lock; what is left of
  its process tree is killed, then the attempt ends as `lost`.

**The process tree** is what runs in the attempt's control group, where this runner may make one
(`cgroups.py`). Without one it is what has the attempt in its environment, and what was in the
script's session or process group while a runner saw its supervisor alive: a daemon that left all
three outlives a supervisor killed by force, and only that.

**What a script does to these files.** It runs as the same user and can put anything in place of any
of them, or remove them. None is opened before it is known to be a regular file, and an attempt has
ended only when nobody holds its lock. A supervisor that was stopped is made to go on. An attempt
whose folder or lock is gone cannot be followed any more: what runs of it is killed, and it ends as
`lost`. When the study's whole folder is removed it is made anew, and that happens to each attempt
in it.

**What another trial does to them** does not count: what an attempt, its supervisor and its runner
say has a seal by the attempt's key (`keys.py`, `studyflow.trial.seals`).

**The log** is not limited: the script writes to the file itself, so that no runner and no pipe can
slow it down or lose its last words. Readers take it in pieces of bounded size.
"""

from studyflow.executors.local.command import resolve_command
from studyflow.executors.local.executor import LocalExecutor
from studyflow.executors.local.study_folder import site_of

__all__ = ["LocalExecutor", "resolve_command", "site_of"]
