"""Labels and annotations of a trial's pod: which are a study's to set.

Network policies, quotas and runners find pods by labels, and node agents, network plugins and
identity webhooks take orders from annotations. So what belongs to studyflow, to Kubernetes or to
one of those is not a study file's.
"""

from __future__ import annotations

import re
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?\Z", re.ASCII)
_DOMAIN: Final = re.compile(
    r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*\Z", re.ASCII
)

_OWN_DOMAINS: Final = ("studyflow.dev", "app.kubernetes.io")
_KUBERNETES: Final = ("kubernetes.io", "k8s.io", "x-k8s.io")
ORDER_DOMAINS: Final = (
    "azure.workload.identity",
    "cilium.io",
    "cncf.io",
    "cri-containerd.io",
    "eks.amazonaws.com",
    "iam.amazonaws.com",
    "iam.gke.io",
    "io.cilium",
    "k8s.ovn.org",
    "nri.containerd.io",
    "nri.io",
    "projectcalico.org",
    "vault.hashicorp.com",
)
"""Domains whose keys give a pod an identity, secrets, devices or another network."""
_AGENT_DOMAINS: Final = (
    "ad.datadoghq.com",
    "co.elastic.logs",
    "co.elastic.metrics",
    "co.elastic.monitor",
    "consul.hashicorp.com",
    "dapr.io",
    "istio.io",
    "linkerd.io",
    "openshift.io",
)
"""Domains whose keys make a webhook put containers and volumes of one's choice into a pod, or an
agent on the node ask addresses of one's choice. The cluster's own webhooks set such keys too, so
the admission policy does not have them."""
_SWITCHES: Final = (
    "consul.hashicorp.com/connect-inject",
    "dapr.io/enabled",
    "linkerd.io/inject",
    "sidecar.istio.io/inject",
)
"""Keys of theirs that say only whether a pod gets the sidecar which the platform has made."""
ORDER_NAMES: Final = (
    "dev.gvisor.",
    "io.containerd.",
    "io.katacontainers.",
    "io.kubernetes.",
    "run.oci.",
)
"""Beginnings of keys by which container runtimes take orders."""
_JOB_LABELS: Final = ("job-name", "controller-uid", "pod-template-hash")

HARMLESS_ANNOTATIONS: Final = (
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "kubectl.kubernetes.io/default-container",
    "kubectl.kubernetes.io/default-logs-container",
)
"""Annotations of Kubernetes that a study may set."""


def key_problem(key: str) -> str | None:
    """Return what is wrong with the form of a label's or annotation's key; `None` for nothing."""
    domain, slash, name = key.rpartition("/")
    if slash and (len(domain) > 253 or _DOMAIN.match(domain) is None):
        return "what stands before the '/' must be a domain in small letters"
    return _name_problem(name)


def owner_of(key: str, *, is_label: bool) -> str | None:
    """Return whose a label or annotation is, when it is not a study's; `None` when it is.

    Spelling in other cases changes nothing: no two owners tell themselves apart by it.
    """
    lower = key.lower()
    if lower in _SWITCHES or (not is_label and lower in HARMLESS_ANNOTATIONS):
        return None
    domain, slash, _ = lower.rpartition("/")
    if lower == "studyflow" or lower.startswith("studyflow.") or _is_in(domain, _OWN_DOMAINS):
        return "studyflow"
    if (slash and _is_in(domain, _KUBERNETES)) or lower in _JOB_LABELS:
        return "Kubernetes"
    if (slash and _is_in(domain, (*ORDER_DOMAINS, *_AGENT_DOMAINS))) or lower.startswith(
        ORDER_NAMES
    ):
        return "the cluster's network and node agents"
    return None


def label_value_problem(value: str) -> str | None:
    """Return what is wrong with the form of a label's value; `None` for nothing."""
    return _name_problem(value) if value else None


def _name_problem(name: str) -> str | None:
    if _NAME.match(name) is None:
        return (
            "it must have at most 63 letters, digits, '-', '_' and '.', with a letter or digit at "
            "either end"
        )
    return None


def _is_in(domain: str, domains: tuple[str, ...]) -> bool:
    return any(domain == one or domain.endswith(f".{one}") for one in domains)
