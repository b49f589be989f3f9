# The orchestrator: studyflow with all its parts, the flows, and what the cluster's servers run from:
# Prefect's server and worker, and MLflow's server. Trials run in images of their own.
#   docker build -t registry.example/studyflow/orchestrator:0.1.0 .
# The builder's own pip settings say where packages come from.

FROM python:3.11-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

# The packages that studyflow needs, from its metadata alone. A stage of its own, so that the next one
# is built again when this list changes, and not whenever pyproject.toml does.
FROM python:3.11-slim AS requirements
COPY constraints.txt pyproject.toml /deps/
RUN python -c "import tomllib; \
extras = tomllib.load(open('/deps/pyproject.toml', 'rb'))['project']; \
named = extras['dependencies'] + [r for rs in extras['optional-dependencies'].values() for r in rs]; \
dev = set(extras['optional-dependencies']['dev']); \
print('\n'.join(r for r in named if r not in dev and not r.startswith('studyflow')))" \
    > /deps/requirements.txt

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STUDYFLOW_HOME=/var/lib/studyflow \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
COPY --from=requirements /deps/constraints.txt /deps/requirements.txt /tmp/deps/
# MLflow reads an object store through a client that it does not bring along:
#   --build-arg EXTRA_PACKAGES=boto3        S3; google-cloud-storage, azure-storage-blob for others
ARG EXTRA_PACKAGES=""
# Nearly all of the image; a change of studyflow's code leaves it in the cache.
RUN pip install --no-cache-dir --constraint /tmp/deps/constraints.txt \
    --requirement /tmp/deps/requirements.txt ${EXTRA_PACKAGES}
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl
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
