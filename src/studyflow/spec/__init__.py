"""What a study is: `StudySpec` and its parts, read from one YAML file and checked once."""

from studyflow.spec.budget import LIMITS, BudgetSpec, fixed_moment, is_time_of_day, moment_of
from studyflow.spec.differences import describe_differences
from studyflow.spec.models import (
    ConstraintSpec,
    NotifyEvent,
    NotifySpec,
    ObjectiveSpec,
    PrunerSpec,
    ResourcesSpec,
    RetrySpec,
    SamplerName,
    SamplerSpec,
    StopSpec,
    StudySpec,
    TrialSpec,
)
from studyflow.spec.parts import LONGEST_SECONDS
from studyflow.spec.plan import describe_plan, largest_gpu_hours, longest_seconds
from studyflow.spec.problems import Problem
from studyflow.spec.reader import find_problems, read_study
from studyflow.spec.schema import json_schema

__all__ = [
    "LIMITS",
    "LONGEST_SECONDS",
    "BudgetSpec",
    "ConstraintSpec",
    "NotifyEvent",
    "NotifySpec",
    "ObjectiveSpec",
    "Problem",
    "PrunerSpec",
    "ResourcesSpec",
    "RetrySpec",
    "SamplerName",
    "SamplerSpec",
    "StopSpec",
    "StudySpec",
    "TrialSpec",
    "describe_differences",
    "describe_plan",
    "find_problems",
    "fixed_moment",
    "is_time_of_day",
    "json_schema",
    "largest_gpu_hours",
    "longest_seconds",
    "moment_of",
    "read_study",
]
