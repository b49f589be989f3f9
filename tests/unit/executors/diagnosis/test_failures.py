"""The failure that ended a script, among all that its log tells of."""

# ruff: noqa: E501 - logs are as they are

from __future__ import annotations

import signal
import time

import pytest

from studyflow.executors.diagnosis import Ending, How, blame_device, diagnose
from studyflow.executors.diagnosis.failures import Failure, last_failures
from studyflow.trial import Cause, Outcome, Trial

TRIAL = Trial("demo", 7, {}, metrics=("loss",))

HEADER = "Traceback (most recent call last):\n"
FRAMES = '  File "/work/train.py", line 12, in train\n    loss.backward()\n    ^^^^^^^^^^^^^^^\n'
CUDA_OOM = HEADER + FRAMES + (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total "
    "capacity of 79.15 GiB\n"
)  # fmt: skip
CUDA_ERROR = HEADER + FRAMES + (
    "RuntimeError: CUDA error: out of memory\n"
    "CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.\n"
    "For debugging consider passing CUDA_LAUNCH_BLOCKING=1\n"
    "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.\n\n"
)  # fmt: skip
HOST_OOM = HEADER + FRAMES + (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate "
    "memory: you tried to allocate 400000000000000 bytes. Error code 12 (Cannot allocate memory)\n"
)  # fmt: skip
KEY_ERROR = HEADER + FRAMES + "KeyError: 'lr'\n"
DURING = "\nDuring handling of the above exception, another exception occurred:\n\n"
FROM = "\nThe above exception was the direct cause of the following exception:\n\n"
GOES_ON = "halved the batch size to 32\nepoch 1: loss 0.5\nepoch 2: loss 0.4\n"
BAR = "Epoch 1:  50%|█████     | 5/10 [00:01<00:01,  4.98it/s]\r"
IGNORED = (
    "Exception ignored in: <function Loader.__del__ at 0x7f>\n"
    + HEADER
    + FRAMES
    + "AttributeError: 'NoneType' object has no attribute 'x'\n"
)
THREAD = (
    "Exception in thread Thread-3 (_pin_memory_loop):\n"
    + HEADER
    + FRAMES
    + "ConnectionResetError: [Errno 104] Connection reset by peer\n"
)
WANDB = "wandb: Run history:\nwandb: loss █▁\nwandb: 🚀 View run at: https://wandb.ai/me/x\n🏃 View run demo at: http://mlflow\n"
TERMINATE = (
    "terminate called after throwing an instance of 'c10::OutOfMemoryError'\n"
    "  what():  CUDA out of memory. Tried to allocate 2.00 GiB\n"
    "Exception raised from malloc at ../c10/cuda/CUDACachingAllocator.cpp:1130 (most recent call first):\n"
    "frame #0: c10::Error::Error(c10::SourceLocation, std::string) + 0x57 (0x7f in libc10.so)\n"
    "frame #1: <unknown function> + 0x2f7 (0x7f in libc10_cuda.so)\n"
)
TORCHRUN = (
    "E0712 10:00:00.000000 140 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: 1) local_rank: 0 (pid: 55) of binary: /usr/bin/python\n"
    + HEADER + FRAMES
    + "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: \n"
    "============================================================\ntrain.py FAILED\n"
    "------------------------------------------------------------\nFailures:\n  <NO_OTHER_FAILURES>\n"
    "Root Cause (first observed failure):\n[0]:\n  time      : 2026-07-12_10:00:00\n  host      : gpu-1\n"
    "  rank      : 0 (local_rank: 0)\n  exitcode  : 1 (pid: 55)\n  error_file: <N/A>\n"
    "  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html\n"
    "============================================================\n"
)  # fmt: skip
CALLED = (
    HEADER
    + FRAMES
    + "subprocess.CalledProcessError: Command '['python', 'inner.py']' returned non-zero exit status 1.\n"
)
GROUP = (
    "  + Exception Group Traceback (most recent call last):\n"
    '  |   File "/work/train.py", line 3, in <module>\n'
    "  | ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)\n"
    "  +-+---------------- 1 ----------------\n"
    "    | Traceback (most recent call last):\n"
    '    |   File "/work/train.py", line 3, in f\n'
    "    | torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
    "    +------------------------------------\n"
)
REPLICA = HEADER + FRAMES + (
    "torch.OutOfMemoryError: Caught OutOfMemoryError in replica 0 on device 0.\nOriginal "
    + HEADER + FRAMES + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
)  # fmt: skip
SPAWN = HEADER + FRAMES + (
    "torch.multiprocessing.spawn.ProcessRaisedException: \n\n-- Process 0 terminated with the following error:\n"
    + CUDA_OOM
)  # fmt: skip
RICH = (
    "╭───────────────────── Traceback (most recent call last) ──────────────────────╮\n"
    "│ /work/train.py:3 in <module>                                                 │\n"
    "╰──────────────────────────────────────────────────────────────────────────────╯\n"
    "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB\n"
)


def ranked(text: str) -> str:
    return "".join(f"[rank0]: {line}\n" for line in text.splitlines())


@pytest.mark.fault("F61")
@pytest.mark.parametrize(
    ("log", "cause"),
    [
        # What ends the script.
        (CUDA_OOM, Cause.CUDA_OOM),
        (CUDA_ERROR, Cause.CUDA_OOM),
        (HOST_OOM, Cause.HOST_OOM),
        (KEY_ERROR, Cause.USER_ERROR),
        (BAR + CUDA_OOM, Cause.CUDA_OOM),
        (CUDA_OOM + BAR + "\n", Cause.CUDA_OOM),
        (CUDA_OOM + "bye\n", Cause.CUDA_OOM),
        (CUDA_OOM + WANDB, Cause.CUDA_OOM),
        (
            ranked(CUDA_OOM)
            + "[rank0]:[W712 10:00:00.1 ProcessGroupNCCL.cpp:1250] Warning: destroy\n",
            Cause.CUDA_OOM,
        ),
        (KEY_ERROR + GOES_ON + CUDA_OOM, Cause.CUDA_OOM),
        (RICH, Cause.CUDA_OOM),
        (GROUP, Cause.CUDA_OOM),
        (REPLICA, Cause.CUDA_OOM),
        (SPAWN, Cause.CUDA_OOM),
        (TERMINATE, Cause.CUDA_OOM),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
            Cause.HOST_OOM,
        ),
        (
            "libc++abi: terminating due to uncaught exception of type std::bad_alloc: std::bad_alloc\n",
            Cause.HOST_OOM,
        ),
        (
            "memory allocation of 1099511627776 bytes failed\nAborted (core dumped)\n",
            Cause.USER_ERROR,
        ),
        ("train.sh: line 3: fork: Cannot allocate memory\n", Cause.HOST_OOM),
        (HEADER + FRAMES + "MemoryError\n", Cause.HOST_OOM),
        # What it survived.
        (CUDA_OOM + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (CUDA_OOM + KEY_ERROR, Cause.USER_ERROR),
        (ranked(CUDA_OOM + GOES_ON + KEY_ERROR), Cause.USER_ERROR),
        (HOST_OOM + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (RICH + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (TERMINATE + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON + "no data for epoch 3\n", Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON, Cause.USER_ERROR),
        ("CUDA out of memory, halving the batch size\n" + GOES_ON + "no data\n", Cause.USER_ERROR),
        ("CUDA out of memory, halving the batch size\n" + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        ("CUDA out of memory, halving the batch size\nno data\n", Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON + HEADER + FRAMES, Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON + KEY_ERROR + IGNORED, Cause.USER_ERROR),
        # Chains: what was handled was survived, what it was raised from was not.
        (CUDA_OOM + DURING + KEY_ERROR, Cause.USER_ERROR),
        (KEY_ERROR + DURING + CUDA_OOM, Cause.CUDA_OOM),
        (CUDA_OOM + FROM + HEADER + FRAMES + "TrainingError: gave up\n", Cause.CUDA_OOM),
        (
            CUDA_OOM + DURING + KEY_ERROR + FROM + HEADER + FRAMES + "TrainingError: gave up\n",
            Cause.USER_ERROR,
        ),
        # What ends nothing.
        (CUDA_OOM + IGNORED, Cause.CUDA_OOM),
        (CUDA_OOM + THREAD, Cause.CUDA_OOM),
        (KEY_ERROR + IGNORED.replace("AttributeError", "MemoryError"), Cause.USER_ERROR),
        (KEY_ERROR + THREAD.replace("ConnectionResetError", "MemoryError"), Cause.USER_ERROR),
        # A child's failure that its parent passes on, and one that it survived.
        (CUDA_OOM + TORCHRUN, Cause.CUDA_OOM),
        (ranked(CUDA_OOM) + TORCHRUN, Cause.CUDA_OOM),
        (CUDA_OOM + CALLED, Cause.CUDA_OOM),
        (CUDA_OOM + KEY_ERROR + TORCHRUN, Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON + TORCHRUN, Cause.USER_ERROR),
        (CUDA_OOM + GOES_ON + CALLED, Cause.USER_ERROR),
        # Messages that only mention it.
        (HEADER + FRAMES + "ValueError: CUDA out of memory is no policy\n", Cause.USER_ERROR),
        (HEADER + FRAMES + "KeyError: 'CUDA out of memory'\n", Cause.USER_ERROR),
        (HEADER + FRAMES + "RuntimeError: no policy for 'CUDA out of memory'\n", Cause.USER_ERROR),
        (
            HEADER
            + '  File "train.py", line 3\n    raise MemoryError("CUDA out of memory")\n'
            + "KeyError: 1\n",
            Cause.USER_ERROR,
        ),
        ("the data set is empty\n", Cause.USER_ERROR),
        ("", Cause.USER_ERROR),
        ("Traceback (most recent call last):", Cause.USER_ERROR),
    ],
)
def test_the_last_failure_of_a_log_is_judged_alone(log: str, cause: Cause) -> None:
    for start in ("", "a line before\n", "x" * 70_000 + "\n"):
        for text in (start + log, start + log.replace("\n", "\r\n")):
            outcome = diagnose(Ending(How.EXITED, exit_code=1), None, text, TRIAL)
            assert outcome.cause is cause, outcome.message


@pytest.mark.fault("F61")
@pytest.mark.parametrize(
    ("exit_code", "log", "cause"),
    [
        (1, "RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed. \n", Cause.HOST_OOM),
        (
            1,
            HEADER + FRAMES + "RuntimeError: DataLoader worker (pid 12) is killed by signal: Killed. \n"
            + FROM + HEADER + FRAMES + "RuntimeError: DataLoader worker (pid(s) 12) exited unexpectedly\n",
            Cause.HOST_OOM,
        ),
        (1, TORCHRUN.replace("exitcode  : 1", "exitcode  : -9"), Cause.HOST_OOM),
        (137, KEY_ERROR + GOES_ON, Cause.HOST_OOM),
        # A worker was killed and started again; the script died of something else.
        (1, "DataLoader worker (pid 12) is killed by signal: Killed. Restarting\n" + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (1, "Killed\n" + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
        (1, TORCHRUN.replace("exitcode  : 1", "exitcode  : -9") + GOES_ON + KEY_ERROR, Cause.USER_ERROR),
    ],
)  # fmt: skip
def test_what_the_kernel_killed_counts_if_the_script_ended_with_it(
    exit_code: int, log: str, cause: Cause
) -> None:
    ending = Ending(How.EXITED, exit_code=exit_code, oom=True)
    assert diagnose(ending, None, log, TRIAL).cause is cause


@pytest.mark.fault("F61")
def test_a_script_killed_long_after_it_survived_is_killed_from_outside() -> None:
    ending = Ending(How.EXITED, exit_code=-signal.SIGKILL)
    assert diagnose(ending, None, CUDA_OOM + GOES_ON, TRIAL).cause is Cause.LOST
    assert diagnose(ending, None, CUDA_OOM, TRIAL).cause is Cause.CUDA_OOM


@pytest.mark.fault("F12", "F61")
@pytest.mark.parametrize(
    ("message", "log", "is_broken"),
    [
        ("Exit code 1.", "RuntimeError: CUDA error: uncorrectable ECC error encountered\n", True),
        ("Exit code 1.", CUDA_ERROR.replace("out of memory", "uncorrectable ECC error encountered"), True),
        ("Exit code 1.", "CUDA error: uncorrectable ECC error encountered\n" + GOES_ON + KEY_ERROR, False),
        ("Exit code 1.", CUDA_ERROR.replace("out of memory", "uncorrectable ECC error") + GOES_ON + KEY_ERROR, False),
        ("Exit code 1.", "GPU is lost\n" + GOES_ON + "no data\n", False),
        ("KeyError: 'lr' (train.py:7)", "", False),
        ("ValueError: unknown state 'GPU is lost' (train.py:7)", "", False),
        ("RuntimeError: no rule for 'GPU is lost' (train.py:7)", "", False),
        ("ValueError: GPU is lost is no state (train.py:7)", "", False),
    ],
)  # fmt: skip
def test_a_device_that_failed_and_worked_again_is_not_broken(
    message: str, log: str, is_broken: bool
) -> None:
    failed = Outcome("demo", 7, 1, Cause.USER_ERROR, {}, message)
    assert (blame_device(failed, log).cause is Cause.NODE_FAULT) is is_broken


def test_the_failure_is_shown_with_its_type_and_its_message() -> None:
    assert last_failures(KEY_ERROR) == (Failure("KeyError", "'lr'", "KeyError: 'lr'"),)
    assert [f.kind for f in last_failures(CUDA_OOM + CALLED)] == [
        "subprocess.CalledProcessError",
        "torch.OutOfMemoryError",
    ]
    assert last_failures("a\nb\n\n") == (Failure("", "b", "b"),)
    assert last_failures("") == ()


@pytest.mark.parametrize("piece", ["1", "a.", ": ", "\n", "] ", HEADER, " " * 9, "\x1b[", "E\n"])
def test_a_log_of_any_kind_is_read_in_little_time(piece: str) -> None:
    text = piece * ((64 << 10) // len(piece))
    began = time.process_time()
    assert len(last_failures(text)) <= 1
    assert time.process_time() - began < 1.0
