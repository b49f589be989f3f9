"""Study files that ask for pods no trial may have, and honest ones that look a little like them."""

from __future__ import annotations

from typing import Any, Final

Kubernetes = dict[str, Any]


def spec(**fields: Any) -> Kubernetes:
    """A patch of the pod."""
    return {"pod_template": {"spec": fields}}


def metadata(**fields: Any) -> Kubernetes:
    """A patch of the pod's metadata."""
    return {"pod_template": {"metadata": fields}}


def script(**fields: Any) -> Kubernetes:
    """A patch of the script's container."""
    return spec(containers=[{"name": "trial", **fields}])


def sidecar(**fields: Any) -> Kubernetes:
    """A container beside the script's."""
    return spec(containers=[{"name": "beside", "image": "registry.example/x:1", **fields}])


def init(**fields: Any) -> Kubernetes:
    """A container before the script's."""
    return spec(initContainers=[{"name": "before", "image": "registry.example/x:1", **fields}])


def context(**fields: Any) -> Kubernetes:
    """A security context of the script's container."""
    return script(securityContext=fields)


def volume(**kind: Any) -> Kubernetes:
    """A volume."""
    return spec(volumes=[{"name": "mine", **kind}])


def mount(path: str, **fields: Any) -> Kubernetes:
    """A mount in the script's container."""
    return script(volumeMounts=[{"name": "scratch", "mountPath": path, **fields}])


def variable(**fields: Any) -> Kubernetes:
    """A variable of the script."""
    return script(env=[{"name": "MINE", **fields}])


def _secret(name: str = "studyflow") -> dict[str, Any]:
    return {"secretKeyRef": {"name": name, "key": "storage-url"}}


def _projected(**source: Any) -> Kubernetes:
    return volume(projected={"sources": [source]})


_TOKEN: Final = {"serviceAccountToken": {"path": "token", "expirationSeconds": 3600}}
_NODE_TERM: Final = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]}
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/trial"
_T: Final = "pod_template"
_C: Final = f"{_T}.spec.containers[0]"

HOSTILE: Final[dict[str, tuple[Kubernetes, str]]] = {
    # ---- the plain fields ------------------------------------------------------------------------
    "the runner's account": ({"service_account": "studyflow-runner"}, "service_account"),
    "the worker's account": ({"service_account": "studyflow-worker"}, "service_account"),
    "another account": ({"service_account": "team"}, "service_account"),
    "the database's secret": (
        {"secret_env": {"DB": {"secret": "studyflow", "key": "storage-url"}}},
        "secret_env.DB.secret",
    ),
    "a server's secret": ({"env_from_secrets": ["studyflow-postgres"]}, "env_from_secrets[0]"),
    "a server's secret as a pull secret": (
        {"image_pull_secrets": ["regcred", "studyflow-artifacts"]},
        "image_pull_secrets[1]",
    ),
    "a server's secret as files": (
        {"volumes": [{"mount_path": "/s", "secret": "studyflow-notify"}]},
        "volumes[0].secret",
    ),
    "the server's artifacts": (
        {"volumes": [{"mount_path": "/a", "claim": "mlflow-artifacts"}]},
        "volumes[0].claim",
    ),
    "the database's disk": (
        {"volumes": [{"mount_path": "/a", "claim": "data-postgres-0"}]},
        "volumes[0].claim",
    ),
    "the server's artifacts as checkpoints": (
        {"checkpoints": {"claim": "mlflow-artifacts"}},
        "checkpoints.claim",
    ),
    "checkpoints elsewhere": (
        {"checkpoints": {"claim": "c", "sub_path": "a/../../b"}},
        "checkpoints.sub_path",
    ),
    "a folder elsewhere": (
        {"volumes": [{"mount_path": "/a", "claim": "c", "sub_path": "../x"}]},
        "volumes[0].sub_path",
    ),
    "a mount over scratch": (
        {"volumes": [{"mount_path": "//tmp/.", "empty_dir": "1Gi"}]},
        "volumes[0].mount_path",
    ),
    "a mount over checkpoints": (
        {"volumes": [{"mount_path": "/run/studyflow/checkpoints", "empty_dir": "1Gi"}]},
        "volumes[0].mount_path",
    ),
    "a mount over /dev": (
        {"volumes": [{"mount_path": "/dev", "empty_dir": "1Gi"}]},
        "volumes[0].mount_path",
    ),
    "a mount by dots": (
        {"volumes": [{"mount_path": "/data/../var/run/studyflow", "empty_dir": "1Gi"}]},
        "volumes[0].mount_path",
    ),
    "MLflow's run from a secret": (
        {"secret_env": {"MLFLOW_RUN_ID": {"secret": "mine", "key": "id"}}},
        "secret_env.MLFLOW_RUN_ID",
    ),
    "the runner's label": (
        {"labels": {"app.kubernetes.io/component": "runner"}},
        "labels.app.kubernetes.io/component",
    ),
    "another trial's label": (
        {"labels": {"studyflow.dev/trial": "99"}},
        "labels.studyflow.dev/trial",
    ),
    "a label of a future studyflow": (
        {"labels": {"studyflow.owner": "x"}},
        "labels.studyflow.owner",
    ),
    "the job's label": ({"labels": {"job-name": "other"}}, "labels.job-name"),
    "the job's newer label": (
        {"labels": {"batch.kubernetes.io/job-name": "other"}},
        "labels.batch.kubernetes.io/job-name",
    ),
    "a queue past its field": (
        {"labels": {"kueue.x-k8s.io/queue-name": "theirs"}},
        "labels.kueue.x-k8s.io/queue-name",
    ),
    "a label in capitals": (
        {"labels": {"App.Kubernetes.io/Component": "runner"}},
        "labels.App.Kubernetes.io/Component",
    ),
    "a label that is a merge key": ({"labels": {"<<": "x"}}, "labels.<<"),
    "a cloud identity by label": (
        {"labels": {"azure.workload.identity/use": "true"}},
        "labels.azure.workload.identity/use",
    ),
    "no AppArmor": ({"annotations": {_APPARMOR: "unconfined"}}, f"annotations.{_APPARMOR}"),
    "no seccomp": (
        {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}},
        "annotations.seccomp.security.alpha.kubernetes.io/pod",
    ),
    "a cloud role by annotation": (
        {"annotations": {"iam.amazonaws.com/role": "admin"}},
        "annotations.iam.amazonaws.com/role",
    ),
    "a second network": (
        {"annotations": {"k8s.v1.cni.cncf.io/networks": "host"}},
        "annotations.k8s.v1.cni.cncf.io/networks",
    ),
    "devices by annotation": (
        {"annotations": {"io.kubernetes.cri-o.Devices": "/dev/kmsg"}},
        "annotations.io.kubernetes.cri-o.Devices",
    ),
    "the cluster's own priority": (
        {"priority_class": "system-node-critical"},
        "priority_class",
    ),
    "a node by its name": (
        {"affinity": {"nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [_NODE_TERM]}}}},
        f"affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms[0].matchFields",
    ),
    "a preferred node by its name": (
        {"affinity": {"nodeAffinity": {_PREFERRED: [{"weight": 1, "preference": _NODE_TERM}]}}},
        f"affinity.nodeAffinity.{_PREFERRED}[0].preference.matchFields",
    ),
    "nobody else's pods": (
        {
            "affinity": {
                "podAntiAffinity": {
                    _REQUIRED: [{"topologyKey": "zone", "namespaceSelector": {}}],
                }
            }
        },
        f"affinity.podAntiAffinity.{_REQUIRED}[0].namespaceSelector",
    ),
    "a directive in an affinity": (
        {"affinity": {"$patch": "replace"}},
        "affinity.$patch",
    ),
    "a toleration of another form": (
        {"tolerations": [{"key": "a", "operator": "Exists", "mystery": 1}]},
        "tolerations[0].mystery",
    ),
    # ---- the pod ---------------------------------------------------------------------------------
    "a token": (
        spec(automountServiceAccountToken=True),
        f"{_T}.spec.automountServiceAccountToken",
    ),
    "a token by null": (
        spec(automountServiceAccountToken=None),
        f"{_T}.spec.automountServiceAccountToken",
    ),
    "a token by a text": (
        spec(automountServiceAccountToken="true"),
        f"{_T}.spec.automountServiceAccountToken",
    ),
    "an account by the patch": (
        spec(serviceAccountName="studyflow-runner"),
        f"{_T}.spec.serviceAccountName",
    ),
    "an account by its former name": (
        spec(serviceAccount="studyflow-runner"),
        f"{_T}.spec.serviceAccount",
    ),
    "the node's network": (spec(hostNetwork=True), f"{_T}.spec.hostNetwork"),
    "the node's network by case": (spec(hostnetwork=True), f"{_T}.spec.hostnetwork"),
    "the node's processes": (spec(hostPID=True), f"{_T}.spec.hostPID"),
    "the node's memory": (spec(hostIPC=True), f"{_T}.spec.hostIPC"),
    "the node's users": (spec(hostUsers=True), f"{_T}.spec.hostUsers"),
    "a node": (spec(nodeName="control-plane"), f"{_T}.spec.nodeName"),
    "another scheduler": (spec(schedulerName="mine"), f"{_T}.spec.schedulerName"),
    "restarts": (spec(restartPolicy="OnFailure"), f"{_T}.spec.restartPolicy"),
    "a long grace": (
        spec(terminationGracePeriodSeconds=10**6),
        f"{_T}.spec.terminationGracePeriodSeconds",
    ),
    "a later deadline": (spec(activeDeadlineSeconds=10**9), f"{_T}.spec.activeDeadlineSeconds"),
    "no deadline": (spec(activeDeadlineSeconds=None), f"{_T}.spec.activeDeadlineSeconds"),
    "an ephemeral container": (
        spec(ephemeralContainers=[{"name": "debug", "image": "x"}]),
        f"{_T}.spec.ephemeralContainers",
    ),
    "a priority": (spec(priority=10**9), f"{_T}.spec.priority"),
    "the cluster's priority by the patch": (
        spec(priorityClassName="system-cluster-critical"),
        f"{_T}.spec.priorityClassName",
    ),
    "a device by a claim": (
        spec(resourceClaims=[{"name": "gpu", "resourceClaimName": "all"}]),
        f"{_T}.spec.resourceClaims",
    ),
    "a field of a future Kubernetes": (spec(hostEverything=True), f"{_T}.spec.hostEverything"),
    "another system": (spec(os={"name": "windows"}), f"{_T}.spec.os.name"),
    "a server's secret to pull with": (
        spec(imagePullSecrets=[{"name": "studyflow"}]),
        f"{_T}.spec.imagePullSecrets[0].name",
    ),
    "a label by the patch": (
        metadata(labels={"app.kubernetes.io/component": "runner"}),
        f"{_T}.metadata.labels.app.kubernetes.io/component",
    ),
    "no labels": (metadata(labels=None), f"{_T}.metadata.labels"),
    "one label less": (
        metadata(labels={"studyflow.dev/study": None}),
        f"{_T}.metadata.labels.studyflow.dev/study",
    ),
    "a finalizer": (metadata(finalizers=["a/b"]), f"{_T}.metadata.finalizers"),
    "another namespace": (metadata(namespace="kube-system"), f"{_T}.metadata.namespace"),
    "an annotation by the patch": (
        metadata(annotations={_APPARMOR: "unconfined"}),
        f"{_T}.metadata.annotations.{_APPARMOR}",
    ),
    "a label that is a number": (metadata(labels={"a": 1}), f"{_T}.metadata.labels.a"),
    "root for the whole pod": (
        spec(securityContext={"runAsUser": 0}),
        f"{_T}.spec.securityContext.runAsUser",
    ),
    "root as a truth": (
        spec(securityContext={"runAsUser": False}),
        f"{_T}.spec.securityContext.runAsUser",
    ),
    "root's group": (
        spec(securityContext={"supplementalGroups": [0]}),
        f"{_T}.spec.securityContext.supplementalGroups[0]",
    ),
    "maybe root": (
        spec(securityContext={"runAsNonRoot": False}),
        f"{_T}.spec.securityContext.runAsNonRoot",
    ),
    "no security context": (spec(securityContext=None), f"{_T}.spec.securityContext"),
    "no profile for the pod": (
        spec(securityContext={"seccompProfile": {"type": "Unconfined"}}),
        f"{_T}.spec.securityContext.seccompProfile.type",
    ),
    "a profile of the node": (
        spec(
            securityContext={
                "seccompProfile": {"type": "Localhost", "localhostProfile": "audit.json"}
            }
        ),
        f"{_T}.spec.securityContext.seccompProfile.type",
    ),
    "a kernel setting": (
        spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}),
        f"{_T}.spec.securityContext.sysctls[0].name",
    ),
    "a Windows host process": (
        spec(securityContext={"windowsOptions": {"hostProcess": True}}),
        f"{_T}.spec.securityContext.windowsOptions",
    ),
    # ---- the containers --------------------------------------------------------------------------
    "a privileged script": (context(privileged=True), f"{_C}.securityContext.privileged"),
    "escalation": (
        context(allowPrivilegeEscalation=True),
        f"{_C}.securityContext.allowPrivilegeEscalation",
    ),
    "escalation by null": (
        context(allowPrivilegeEscalation=None),
        f"{_C}.securityContext.allowPrivilegeEscalation",
    ),
    "a capability": (
        context(capabilities={"add": ["SYS_ADMIN"]}),
        f"{_C}.securityContext.capabilities.add",
    ),
    "a kept capability": (
        context(capabilities={"drop": ["CHOWN"]}),
        f"{_C}.securityContext.capabilities.drop",
    ),
    "an unmasked /proc": (context(procMount="Unmasked"), f"{_C}.securityContext.procMount"),
    "a writable root": (
        context(readOnlyRootFilesystem=False),
        f"{_C}.securityContext.readOnlyRootFilesystem",
    ),
    "root in the container": (context(runAsUser=0), f"{_C}.securityContext.runAsUser"),
    "no profile for the container": (
        context(seccompProfile={"type": "Unconfined"}),
        f"{_C}.securityContext.seccompProfile.type",
    ),
    "no AppArmor for the container": (
        context(appArmorProfile={"type": "Unconfined"}),
        f"{_C}.securityContext.appArmorProfile.type",
    ),
    "another SELinux type": (
        context(seLinuxOptions={"type": "spc_t"}),
        f"{_C}.securityContext.seLinuxOptions.type",
    ),
    "a security context replaced": (
        context(**{"$patch": "replace"}),
        f"{_C}.securityContext.$patch",
    ),
    "a privileged sidecar": (
        sidecar(securityContext={"privileged": True}),
        f"{_C}.securityContext.privileged",
    ),
    "a privileged init container": (
        init(securityContext={"privileged": True}),
        f"{_T}.spec.initContainers[0].securityContext.privileged",
    ),
    "a sidecar as root": (
        sidecar(securityContext={"runAsUser": 0, "runAsNonRoot": False}),
        f"{_C}.securityContext.runAsUser",
    ),
    "a sidecar with a server's secret": (
        sidecar(env=[{"name": "DB", "valueFrom": _secret()}]),
        f"{_C}.env[0].valueFrom.secretKeyRef.name",
    ),
    "an init container with a server's secret": (
        init(envFrom=[{"secretRef": {"name": "studyflow"}}]),
        f"{_T}.spec.initContainers[0].envFrom[0].secretRef.name",
    ),
    "an init container that is the script": (
        spec(initContainers=[{"name": "trial", "image": "x"}]),
        f"{_T}.spec.initContainers[0].name",
    ),
    "two containers of one name": (
        spec(containers=[{"name": "trial"}, {"name": "trial", "image": "x"}]),
        f"{_T}.spec.containers[1].name",
    ),
    "a container in capitals": (
        spec(containers=[{"name": "Trial", "image": "x"}]),
        f"{_T}.spec.containers[0].name",
    ),
    "a container without a name": (
        spec(containers=[{"securityContext": {"privileged": True}}]),
        f"{_C}.securityContext.privileged",
    ),
    "no script": (
        spec(containers=[{"name": "trial", "$patch": "delete"}]),
        f"{_C}.$patch",
    ),
    "containers that are a mapping": (
        spec(containers={"trial": {"image": "x"}}),
        f"{_T}.spec.containers",
    ),
    "a container that is a text": (spec(containers=["trial"]), f"{_T}.spec.containers[0]"),
    "the pod replaced": (spec(**{"$patch": "replace"}), f"{_T}.spec.$patch"),
    "keys kept": (spec(**{"$retainKeys": ["containers"]}), f"{_T}.spec.$retainKeys"),
    "an order of containers": (
        spec(**{"$setElementOrder/containers": [{"name": "trial"}]}),
        f"{_T}.spec.$setElementOrder/containers",
    ),
    "a list emptied": (
        metadata(**{"$deleteFromPrimitiveList/finalizers": ["a"]}),
        f"{_T}.metadata.$deleteFromPrimitiveList/finalizers",
    ),
    "a merge key": (spec(**{"<<": {"hostNetwork": True}}), f"{_T}.spec.<<"),
    "a pod that is a text": ({"pod_template": {"spec": "hostNetwork"}}, f"{_T}.spec"),
    "no pod": ({"pod_template": {"spec": None}}, f"{_T}.spec"),
    "another image": (script(image="evil.example/x:1"), f"{_C}.image"),
    "another program": (script(command=["sh"]), f"{_C}.command"),
    "more arguments": (script(args=["-c", "id"]), f"{_C}.args"),
    "another outcome": (
        script(terminationMessagePath="/tmp/x"),
        f"{_C}.terminationMessagePath",
    ),
    "an outcome from the log": (
        script(terminationMessagePolicy="FallbackToLogsOnError"),
        f"{_C}.terminationMessagePolicy",
    ),
    "another trial": (
        script(env=[{"name": "STUDYFLOW_TRIAL", "value": "{}"}]),
        f"{_C}.env[0].name",
    ),
    "another run": (script(env=[{"name": "MLFLOW_RUN_ID", "value": "x"}]), f"{_C}.env[0].name"),
    "another login to MLflow": (
        script(env=[{"name": "MLFLOW_TRACKING_TOKEN", "value": "x"}]),
        f"{_C}.env[0].name",
    ),
    "a variable from the database's secret": (
        variable(valueFrom=_secret("studyflow-postgres")),
        f"{_C}.env[0].valueFrom.secretKeyRef.name",
    ),
    "a variable from the node": (
        variable(valueFrom={"fieldRef": {"fieldPath": "status.hostIP"}}),
        f"{_C}.env[0].valueFrom.fieldRef.fieldPath",
    ),
    "a field that goes on behind its index": (
        variable(valueFrom={"fieldRef": {"fieldPath": "metadata.labels['a'].spec[nodeName]"}}),
        f"{_C}.env[0].valueFrom.fieldRef.fieldPath",
    ),
    "an index of a field that has none": (
        volume(
            downwardAPI={"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.uid[0]"}}]}
        ),
        f"{_T}.spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath",
    ),
    "a variable from a file of the node": (
        variable(valueFrom={"fileKeyRef": {"path": "x"}}),
        f"{_C}.env[0].valueFrom.fileKeyRef",
    ),
    "variables from the database's secret": (
        script(envFrom=[{"secretRef": {"name": "studyflow"}}]),
        f"{_C}.envFrom[0].secretRef.name",
    ),
    "a secret in other letters": (
        script(envFrom=[{"secretRef": {"name": "Studyflow"}}]),
        f"{_C}.envFrom[0].secretRef.name",
    ),
    "a claim with a blank": (
        volume(persistentVolumeClaim={"claimName": "data-postgres-0 "}),
        f"{_T}.spec.volumes[0].persistentVolumeClaim.claimName",
    ),
    "a mount with options": (mount("/a:/b"), f"{_C}.volumeMounts[0].mountPath"),
    "a port of the node": (
        script(ports=[{"containerPort": 80, "hostPort": 80}]),
        f"{_C}.ports[0].hostPort",
    ),
    "a raw device": (
        script(volumeDevices=[{"name": "mine", "devicePath": "/dev/sda"}]),
        f"{_C}.volumeDevices",
    ),
    "a probe of another host": (
        script(livenessProbe={"httpGet": {"host": "169.254.169.254", "port": 80}}),
        f"{_C}.livenessProbe.httpGet.host",
    ),
    "a hook at another host": (
        sidecar(lifecycle={"postStart": {"tcpSocket": {"host": "postgres", "port": 5432}}}),
        f"{_C}.lifecycle.postStart.tcpSocket.host",
    ),
    "a container that restarts": (script(restartPolicy="Always"), f"{_C}.restartPolicy"),
    "a resource by a claim": (
        script(resources={"claims": [{"name": "gpu"}]}),
        f"{_C}.resources.claims",
    ),
    "an amount below nothing": (
        script(resources={"limits": {"cpu": "-1"}}),
        f"{_C}.resources.limits.cpu",
    ),
    # ---- volumes and mounts ----------------------------------------------------------------------
    "the node's files": (volume(hostPath={"path": "/"}), f"{_T}.spec.volumes[0].hostPath"),
    "the node's files beside an empty folder": (
        volume(emptyDir={}, hostPath={"path": "/"}),
        f"{_T}.spec.volumes[0].hostPath",
    ),
    "a driver's volume": (
        volume(csi={"driver": "secrets-store.csi.k8s.io"}),
        f"{_T}.spec.volumes[0].csi",
    ),
    "a new claim": (
        volume(ephemeral={"volumeClaimTemplate": {}}),
        f"{_T}.spec.volumes[0].ephemeral",
    ),
    "a server's files": (
        volume(nfs={"server": "nfs", "path": "/"}),
        f"{_T}.spec.volumes[0].nfs",
    ),
    "an image as files": (
        volume(image={"reference": "x"}),
        f"{_T}.spec.volumes[0].image",
    ),
    "no kind of volume": (volume(), f"{_T}.spec.volumes[0]"),
    "a server's secret as a volume": (
        volume(secret={"secretName": "studyflow"}),
        f"{_T}.spec.volumes[0].secret.secretName",
    ),
    "a server's secret among others": (
        _projected(secret={"name": "studyflow"}),
        f"{_T}.spec.volumes[0].projected.sources[0].secret.name",
    ),
    "a token as a file": (
        volume(projected={"sources": [_TOKEN]}),
        f"{_T}.spec.volumes[0].projected.sources[0].serviceAccountToken",
    ),
    "a certificate as a file": (
        _projected(podCertificate={"signerName": "x"}),
        f"{_T}.spec.volumes[0].projected.sources[0].podCertificate",
    ),
    "the node's name as a file": (
        volume(downwardAPI={"items": [{"path": "n", "fieldRef": {"fieldPath": "spec.nodeName"}}]}),
        f"{_T}.spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath",
    ),
    "the database's disk by the patch": (
        volume(persistentVolumeClaim={"claimName": "data-postgres-0"}),
        f"{_T}.spec.volumes[0].persistentVolumeClaim.claimName",
    ),
    "another scratch": (
        spec(volumes=[{"name": "scratch", "persistentVolumeClaim": {"claimName": "c"}}]),
        f"{_T}.spec.volumes[0].name",
    ),
    "a field's volume": (
        spec(volumes=[{"name": "volume-0", "emptyDir": {}}]),
        f"{_T}.spec.volumes[0].name",
    ),
    "two volumes of one name": (
        spec(volumes=[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]),
        f"{_T}.spec.volumes[1].name",
    ),
    "no volumes": (spec(volumes=None), f"{_T}.spec.volumes"),
    "a mount that reaches the node": (
        mount("/x", mountPropagation="Bidirectional"),
        f"{_C}.volumeMounts[0].mountPropagation",
    ),
    "a mount out of its volume": (
        mount("/x", subPath="../../etc"),
        f"{_C}.volumeMounts[0].subPath",
    ),
    "a mount by an expression": (
        mount("/x", subPathExpr="$(A)/../x"),
        f"{_C}.volumeMounts[0].subPathExpr",
    ),
    "all GPUs of the node": (
        variable(name="NVIDIA_VISIBLE_DEVICES", value="all"),
        f"{_C}.env[0]",
    ),
    "all GPUs of the node for a sidecar": (
        sidecar(env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "0"}]),
        f"{_C}.env[0]",
    ),
    "all GPUs of the node by a label": (
        init(
            env=[
                {
                    "name": "NVIDIA_VISIBLE_DEVICES",
                    "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['a']"}},
                }
            ]
        ),
        f"{_T}.spec.initContainers[0].env[0]",
    ),
    "all GPUs of the node by a secret": (
        {"secret_env": {"AMD_VISIBLE_DEVICES": {"secret": "mine", "key": "k"}}},
        "secret_env.AMD_VISIBLE_DEVICES",
    ),
    "all GPUs of the node by a mount": (
        sidecar(
            volumeMounts=[{"name": "scratch", "mountPath": "/var/run/nvidia-container-devices/all"}]
        ),
        f"{_C}.volumeMounts[0].mountPath",
    ),
    "all GPUs of the node by a field": (
        {"volumes": [{"mount_path": "/run/./nvidia-container-devices/all", "empty_dir": "1Mi"}]},
        "volumes[0].mount_path",
    ),
    "a device by an annotation of NRI": (
        metadata(annotations={"devices.nri.io/container.trial": "- path: /dev/sda"}),
        f"{_T}.metadata.annotations.devices.nri.io/container.trial",
    ),
    "a handler of crun": (
        metadata(annotations={"run.oci.handler": "krun"}),
        f"{_T}.metadata.annotations.run.oci.handler",
    ),
    "the node's files by a mesh's sidecar": (
        metadata(annotations={"sidecar.istio.io/userVolume": '{"h":{"hostPath":{"path":"/"}}}'}),
        f"{_T}.metadata.annotations.sidecar.istio.io/userVolume",
    ),
    "another program as a mesh's sidecar": (
        {"annotations": {"config.linkerd.io/proxy-image": "evil.example/x"}},
        "annotations.config.linkerd.io/proxy-image",
    ),
    "requests by the node's agent": (
        {"annotations": {"ad.datadoghq.com/trial.checks": '{"http_check": {}}'}},
        "annotations.ad.datadoghq.com/trial.checks",
    ),
    "everybody's checkpoints by a volume": (
        {
            "checkpoints": {"claim": "shared"},
            "volumes": [{"mount_path": "/all", "claim": "shared"}],
        },
        "volumes[0].claim",
    ),
    "everybody's checkpoints by the patch": (
        {
            "checkpoints": {"claim": "shared"},
            **volume(persistentVolumeClaim={"claimName": "shared"}),
        },
        f"{_T}.spec.volumes[0].persistentVolumeClaim.claimName",
    ),
    "a mount over everything": (mount("/"), f"{_C}.volumeMounts[0].mountPath"),
    "a mount over the outcome": (
        mount("/dev/termination-log"),
        f"{_C}.volumeMounts[0].mountPath",
    ),
    "a mount over the checkpoints": (
        mount("/var/run/studyflow/checkpoints/"),
        f"{_C}.volumeMounts[0].mountPath",
    ),
    "everybody's checkpoints": (
        script(volumeMounts=[{"name": "checkpoints", "mountPath": "/all"}]),
        f"{_C}.volumeMounts[0].name",
    ),
}
"""What `trial.kubernetes` says, and the value (below it) that is refused."""

HONEST: Final[dict[str, Kubernetes]] = {
    "nothing": {},
    "a runtime class": spec(runtimeClassName="nvidia"),
    "tolerations": spec(tolerations=[{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]),
    "an affinity": spec(
        affinity={
            "nodeAffinity": {
                _REQUIRED: {
                    "nodeSelectorTerms": [
                        {
                            "matchExpressions": [
                                {"key": "gpu.example/kind", "operator": "In", "values": ["a100"]}
                            ]
                        }
                    ]
                }
            },
            "podAntiAffinity": {
                _PREFERRED: [
                    {
                        "weight": 1,
                        "podAffinityTerm": {
                            "topologyKey": "kubernetes.io/hostname",
                            "labelSelector": {"matchLabels": {"team": "a"}},
                        },
                    }
                ]
            },
        }
    ),
    "a sidecar": sidecar(
        command=["proxy"],
        resources={"limits": {"cpu": "100m", "memory": "64Mi"}},
        ports=[{"containerPort": 8080}],
        readinessProbe={"httpGet": {"path": "/", "port": 8080}},
    ),
    "a sidecar with scratch space": sidecar(
        volumeMounts=[
            {"name": "scratch", "mountPath": "/tmp"},
            {"name": "shared-memory", "mountPath": "/dev/shm"},
        ]
    ),
    "a native sidecar": init(
        restartPolicy="Always", volumeMounts=[{"name": "scratch", "mountPath": "/tmp/x"}]
    ),
    "file system groups": spec(securityContext={"fsGroup": 2000, "supplementalGroups": [3000]}),
    "another user": spec(
        securityContext={"runAsUser": 1234, "fsGroupChangePolicy": "OnRootMismatch"}
    ),
    "one more folder": spec(
        volumes=[{"name": "cache", "emptyDir": {"sizeLimit": "5Gi"}}],
        containers=[
            {"name": "trial", "volumeMounts": [{"name": "cache", "mountPath": "/tmp/cache"}]}
        ],
    ),
    "variables": script(
        env=[
            {"name": "NCCL_DEBUG", "value": "INFO"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hub", "key": "token"}}},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
    ),
    "a login to an MLflow of one's own": {
        "secret_env": {"MLFLOW_TRACKING_TOKEN": {"secret": "mine", "key": "token"}}
    },
    "a working folder": script(workingDir="/app", tty=True),
    "a user namespace": spec(hostUsers=False),
    "what holds anyway": spec(
        automountServiceAccountToken=False,
        restartPolicy="Never",
        hostNetwork=False,
        securityContext={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        containers=[
            {
                "name": "trial",
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "privileged": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                },
            }
        ],
    ),
    "service links": spec(enableServiceLinks=None),
    "no injected sidecar": {
        "annotations": {"sidecar.istio.io/inject": "false"},
        "labels": {"linkerd.io/inject": "disabled"},
    },
    "no devices": variable(name="NVIDIA_VISIBLE_DEVICES", value="void"),
    "no eviction": {"annotations": {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}},
    "labels of one's own": {"labels": {"team": "a", "example.org/cost-centre": "42"}},
    "an earlier deadline": spec(activeDeadlineSeconds=60),
    "disk": script(resources={"limits": {"ephemeral-storage": "20Gi"}}),
    "files of several sources": volume(
        projected={"sources": [{"configMap": {"name": "a"}}, {"secret": {"name": "certs"}}]}
    ),
    "the trials' account": {"service_account": "studyflow-trial"},
    "a queue": {"queue": "team-a"},
    "names": spec(hostAliases=[{"ip": "10.0.0.1", "hostnames": ["data"]}], dnsPolicy="Default"),
}
"""What `trial.kubernetes` may say without a platform's file."""
