"""Training scripts that the suites run, by what they do."""

from __future__ import annotations

import enum

STUDY = "contract"
METRIC = "loss"

_SLEEP = "import time\nwhile True: time.sleep(0.05)\n"


_FAILING_CHILD = (
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-c', 'from studyflow import sdk; sdk.current_trial(); "
    'raise RuntimeError("no display")\'])\n'
)


class Script(enum.Enum):
    """Training scripts, by what they do. The value is their source."""

    FINISH = (
        "from studyflow import sdk\n"
        "for step in range(3): sdk.report(step, loss=1.0 / (step + 1))\n"
        "sdk.finish(loss=0.5)\n"
    )
    HANG = "from studyflow import sdk\nsdk.report(0, loss=1.0)\n" + _SLEEP
    PRINT_AND_HANG = (
        "from studyflow import sdk\nprint('epoch 1', flush=True)\nsdk.report(0, loss=1.0)\n"
        + _SLEEP
    )
    FINISH_AND_HANG = (
        "from studyflow import sdk\nsdk.finish(loss=0.5)\nsdk.report(0, loss=1.0)\n" + _SLEEP
    )
    IGNORE_SIGTERM = (
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "from studyflow import sdk\nsdk.report(0, loss=1.0)\n" + _SLEEP
    )
    LEAVE_WHEN_ASKED = (
        "import time\nfrom studyflow import sdk\nsdk.should_stop()\nsdk.report(0, loss=1.0)\n"
        "while not sdk.should_stop(): time.sleep(0.01)\n"
        "sdk.finish(loss=0.25)\n"
    )
    FINISH_AFTER_SIGTERM = (
        "import time\nfrom studyflow import sdk\nfrom studyflow.sdk.session import session\n"
        "sdk.report(0, loss=1.0)\n"
        "while not session()._sigterm.is_received: time.sleep(0.01)\n"
        "sdk.finish(loss=0.25)\n"
    )
    """It never asks whether to stop; one step is its whole budget."""
    SILENT = "pass\n"
    EXIT_3 = "import sys\nprint('the data set is empty')\nsys.exit(3)\n"
    RAISE = (
        "from studyflow import sdk\nsdk.current_trial()\n"
        "raise ValueError('the data set is empty')\n"
    )
    MEMORY_ERROR = "from studyflow import sdk\nsdk.current_trial()\nraise MemoryError\n"
    CUDA_ERROR = (
        "class OutOfMemoryError(RuntimeError): __module__ = 'torch'\n"
        "raise OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')\n"
    )
    KILL_ITSELF = "import os\nos.kill(os.getpid(), 9)\n"
    SEGFAULT = "import os\nos.kill(os.getpid(), 11)\n"
    FINISH_AND_CRASH = "import os\nfrom studyflow import sdk\nsdk.finish(loss=0.5)\nos._exit(5)\n"
    FINISH_TWICE = (
        "from studyflow import sdk\nsdk.finish(loss=0.75, other=1.0)\nsdk.finish(loss=0.5)\n"
    )
    FINISH_NAN = "from studyflow import sdk\nsdk.finish(loss=float('nan'))\n"
    FINISH_WITHOUT_METRIC = "from studyflow import sdk\nsdk.finish(accuracy=0.5)\n"
    FINISH_WITH_TEXT = "from studyflow import sdk\nsdk.finish(loss='0.5')\n"
    GARBAGE = (
        "import json, os, pathlib\n"
        "trial = json.loads(os.environ['STUDYFLOW_TRIAL'])\n"
        "pathlib.Path(trial['outcome_path']).write_bytes(b'{\"version\": 1, \"stu\\xff')\n"
    )
    ANOTHER_TRIAL = (
        "import dataclasses, json, os\n"
        "trial = json.loads(os.environ['STUDYFLOW_TRIAL'])\n"
        "trial['number'] += 1\n"
        "os.environ['STUDYFLOW_TRIAL'] = json.dumps(trial)\n"
        "from studyflow import sdk\nsdk.finish(loss=0.5)\n"
    )
    CHILD_FAILS_LATER = "from studyflow import sdk\nsdk.finish(loss=0.5)\n" + _FAILING_CHILD
    CHILD_FAILS_BEFORE = _FAILING_CHILD + "from studyflow import sdk\nsdk.finish(loss=0.5)\n"
    CHILD_FAILS_ALONE = "from studyflow import sdk\nsdk.report(0, loss=0.5)\n" + _FAILING_CHILD
    SURVIVE_OOM = (
        "import sys, traceback\n"
        "class OutOfMemoryError(RuntimeError): __module__ = 'torch'\n"
        "try: raise OutOfMemoryError('CUDA out of memory. Tried to allocate 20.00 MiB')\n"
        "except OutOfMemoryError: traceback.print_exc()\n"
        "print('halved the batch size', file=sys.stderr)\n"  # a pod's two streams have no order
        "{}['lr']\n"
    )
    FINISH_SWALLOWED = (
        "import resource\nfrom studyflow import sdk\nsdk.report(0, loss=2.0)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (60, 60))\n"
        "try: sdk.finish(loss=0.5)\n"
        "except OSError: pass\n"
    )
    CHECKPOINTS = (
        "import time\nfrom studyflow import sdk\n"
        "trial = sdk.current_trial()\n"
        "file, step = trial.checkpoint_dir / 'own', 0\n"
        "def publish(step):\n"
        "    with sdk.checkpoint(step) as folder:\n"
        "        (folder / 'state').write_text(str(trial.attempt))\n"
        "if trial.attempt == 1: file.write_text('1')\n"
        "while trial.attempt == 1:\n"
        "    publish(step)\n"
        "    part = file.with_name('part')\n"
        "    part.write_text('1')\n"
        "    part.replace(file)\n"
        "    if step == 0: sdk.report(0, loss=1.0)\n"
        "    step += 1\n"
        "    time.sleep(0.01)\n"
        "assert file.read_text() == '1'\n"
        "assert (sdk.last_checkpoint().path / 'state').read_text() == '1'\n"
        "file.write_text('2')\n"
        "publish(0)\n"
        "time.sleep(0.5)\n"
        "assert file.read_text() == '2'\n"
        "assert (sdk.last_checkpoint().path / 'state').read_text() == '2'\n"
        "sdk.finish(loss=0.5)\n"
    )
    """The first attempt saves checkpoints for ever; the second goes on from them and saves too."""
