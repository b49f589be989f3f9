# The orchestrator: studyflow with all its parts, the flows, and what the cluster's servers run from:
# Prefect's server and worker, and MLflow's server. Trials run in images of their own.
#   docker build -t registry.example/studyflow/orchestrator:0.2.0 .
# The builder's own pip settings say where packages come from.

# python:3.11-slim by its digest, the same in all Dockerfiles: locks/base-image.txt.
ARG PYTHON_IMAGE=docker.io/library/python@sha256:9c900dea9e8fb7e16277c179b555cc72d29a352dbc33cff48ad5a0412fd5bfc7

# What builds and describes the image, and stays out of it.
FROM ${PYTHON_IMAGE} AS tools
COPY locks/tools.txt /locks/
RUN python -m venv /tools && \
    /tools/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /locks/tools.txt

FROM tools AS wheel
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE ./
COPY flows flows
COPY images images
COPY src src
RUN /tools/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels .

FROM ${PYTHON_IMAGE} AS installed
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STUDYFLOW_HOME=/var/lib/studyflow \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
# pg_dump and its way back, for `studyflow backup`: as new as any server that Debian has.
RUN apt-get update && \
    DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends postgresql-client && \
    rm -rf /var/lib/apt/lists/*
COPY constraints.txt locks /tmp/locks/
# torch: the default index's build for CUDA, or by --build-arg TORCH_LOCK=torch-cpu the small one, which an index has
# that TORCH_INDEX or the builder's pip settings name.
ARG TORCH_LOCK=torch
ARG TORCH_INDEX=""
RUN /tmp/locks/install-torch "$TORCH_LOCK" "$TORCH_INDEX"
# Nearly all of the rest; a change of studyflow's code leaves it in the cache.
RUN pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/locks/orchestrator.txt
# MLflow reads an object store through a client that it does not bring along:
#   --build-arg EXTRA_PACKAGES=boto3        S3; google-cloud-storage, azure-storage-blob for others
# Its version and digest are not checked, but for those that constraints.txt knows.
ARG EXTRA_PACKAGES=""
RUN if [ -n "${EXTRA_PACKAGES}" ]; then \
    pip install --no-cache-dir --constraint /tmp/locks/constraints.txt ${EXTRA_PACKAGES}; fi
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl && pip check

# The image's bill of materials: all Python packages in it. Tests compare it with its schema, which takes minutes.
FROM installed AS described
COPY --from=tools /tools /tools
RUN /tools/bin/cyclonedx-py environment --no-validate --spec-version 1.6 --output-reproducible \
    --output-format JSON --output-file /sbom.cdx.json "$(command -v python)"

FROM installed
COPY --from=described /sbom.cdx.json /usr/share/sbom/
WORKDIR /opt/studyflow
COPY flows flows
COPY prefect.yaml ./
# The examples, under the names that the deployment's parameter `study` takes.
COPY images/blackbox/study.yaml studies/blackbox.yaml
COPY images/cnn-lstm/study.yaml studies/cnn-lstm.yaml
COPY images/cnn-lstm/study-short.yaml studies/cnn-lstm-short.yaml
COPY images/weights/study.yaml studies/weights.yaml
COPY images/weights/study-settings.yaml studies/weights-settings.yaml
COPY images/epidemic/study.yaml studies/epidemic.yaml
COPY images/fusion/study.yaml studies/fusion.yaml
COPY images/fusion/study-short.yaml studies/fusion-short.yaml
RUN mkdir -p /var/lib/studyflow && chown 10001:10001 /var/lib/studyflow
# A number, so that Kubernetes can tell that it is not root (`runAsNonRoot`).
USER 10001:10001
ENV HOME=/var/lib/studyflow
CMD ["studyflow", "--help"]
