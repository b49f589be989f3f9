"""Runs attempts as Jobs of a Kubernetes cluster, one Job and one pod for each attempt.

names.py       what a study's objects are called: functions of study, trial, attempt
manifest.py    from study and attempt to the Job; pure
pod_status.py  from Job, pod and events to state, cause, sentence and way out; pure
api.py         the requests, and the only import of the Kubernetes client
reflector.py   one list and one watch for all of a study's Jobs, and for its pods
executor.py    `KubernetesExecutor`, which joins them
survey.py      what a study has there at one moment, for whoever only looks
"""

from studyflow.executors.kubernetes.executor import KubernetesExecutor

__all__ = ["KubernetesExecutor"]
