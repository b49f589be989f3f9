"""The rules for trials' pods as a ValidatingAdmissionPolicy, which the API server itself enforces.

The runner refuses a study file that breaks a rule, but whoever may create Jobs among the trials can
do so without a runner. The policy holds for every pod of such a namespace. It needs Kubernetes
1.30.

It looks at pods, since nothing comes after them. What the API server or its plugins add to them is
allowed; a sidecar that a webhook injects has to keep the rules too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from studyflow.executors.kubernetes.admission.every_trial import RULES, VARIABLES
from studyflow.executors.kubernetes.admission.platform_rules import platform_rules
from studyflow.spec.pods import Platform

POLICY_NAME: Final = "studyflow-trials"

TRIALS: Final[Mapping[str, str]] = {"studyflow.dev/holds": "trials"}
"""The label of the namespaces that hold trials."""


def admission_policy(platform: Platform) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the policy and its binding to the namespaces of trials.

    Args:
        platform: What the platform allows besides what holds of every trial.
    """
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE"],
                        "resources": ["pods"],
                    }
                ]
            },
            "variables": [{"name": n, "expression": e} for n, e in VARIABLES.items()],
            "validations": [
                {"expression": expression, "message": message, "reason": "Forbidden"}
                for expression, message in (*RULES, *platform_rules(platform))
            ],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": POLICY_NAME},
        "spec": {
            "policyName": POLICY_NAME,
            "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": dict(TRIALS)}},
        },
    }
    return policy, binding
