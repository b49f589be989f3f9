"""Runs attempts as Jobs of a Kubernetes cluster, one Job and one pod for each attempt.

names.py          what a study's objects are called: functions of study, trial, attempt
manifest.py       from study and attempt to the Job; pure
observation.py    what is known of an attempt at one moment, and what was made of it
judging.py        from Job, pod and events to state, cause and reason; pure, with
  objects.py        what a Job and a pod say, field by field
  waiting.py        what keeps an attempt from beginning
  disruption.py     what ended a pod that did not end by itself
  words.py          what Kubernetes says in words alone, as data
api.py            the requests as a protocol
client.py         made of a real cluster, over
  connection.py     the only import of the Kubernetes client
reflector.py      one list and one watch for all of a study's Jobs, and for its pods
executor.py       `KubernetesExecutor`, with
  monitor.py        how attempts stand, ended where that is due
  fencing.py        what an attempt ends with, written on its Job
  logs.py           logs of pods, kept before they go
survey.py         what a study has there at one moment, for whoever only reads
preflight.py      whether a cluster answers and lets a runner work
"""

from studyflow.executors.kubernetes.executor import KubernetesExecutor

__all__ = ["KubernetesExecutor"]
