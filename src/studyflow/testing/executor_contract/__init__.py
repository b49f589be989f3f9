"""The tests that every executor passes. Subclass one of the suites and give it a place to run.

    class TestMyExecutor(ScriptContract):
        @pytest.fixture
        def place(self, tmp_path):
            yield MyPlace(tmp_path)

`ExecutorContract` is about attempts; `ScriptContract` adds what needs a real interpreter: exit
codes, signals, logs, documents. Both work against a cluster as well as against processes.

scripts.py    the training scripts that the suites run
bench.py      where attempts run, and what a test does with them
attempts.py   `ExecutorContract`
endings.py    `ScriptContract`
"""

from studyflow.testing.executor_contract.attempts import ExecutorContract
from studyflow.testing.executor_contract.bench import ExecutorPlace, Watch, a_trial
from studyflow.testing.executor_contract.endings import ScriptContract
from studyflow.testing.executor_contract.scripts import METRIC, STUDY, Script

__all__ = [
    "METRIC",
    "STUDY",
    "ExecutorContract",
    "ExecutorPlace",
    "Script",
    "ScriptContract",
    "Watch",
    "a_trial",
]
