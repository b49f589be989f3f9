"""Katib's experiments (`kubeflow.org/v1beta1`), translated to study files.

experiment.py  an experiment as a whole; what is carried over, and what is not
reading.py     a manifest, read key by key, so that nothing of it is dropped unsaid
space.py       parameters
search.py      objective, algorithm, early stopping and limits
trial.py       the trial's template: of its container; pod.py of the pod around it
remains.py     why the rest has no place in a study file, and what to do instead
"""

from studyflow.spec.katib.experiment import Translation, translate_experiment
from studyflow.spec.katib.reading import Change

__all__ = ["Change", "Translation", "translate_experiment"]
