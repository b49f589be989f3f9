# The orchestrator: studyflow with all its parts, and the flows. Trials run in images of their own.
#   docker build -t registry.example/studyflow/orchestrator:0.1.0 .
# The builder's own pip settings say where packages come from.

FROM python:3.11-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    STUDYFLOW_HOME=/var/lib/studyflow \
    PREFECT_SERVER_ANALYTICS_ENABLED=false \
    MLFLOW_DISABLE_TELEMETRY=true \
    DO_NOT_TRACK=true
# The packages that studyflow needs, from its metadata alone: a change of its code leaves this layer,
# which is nearly all of the image, in the cache.
COPY constraints.txt pyproject.toml /tmp/deps/
RUN python -c "import tomllib; \
extras = tomllib.load(open('/tmp/deps/pyproject.toml', 'rb'))['project']; \
named = extras['dependencies'] + [r for rs in extras['optional-dependencies'].values() for r in rs]; \
dev = set(extras['optional-dependencies']['dev']); \
print('\n'.join(r for r in named if r not in dev and not r.startswith('studyflow')))" \
    > /tmp/deps/requirements.txt \
    && pip install --no-cache-dir --constraint /tmp/deps/constraints.txt \
    --requirement /tmp/deps/requirements.txt
COPY --from=wheel /wheels /tmp/wheels
RUN pip install --no-cache-dir --no-deps /tmp/wheels/*.whl
WORKDIR /opt/studyflow
COPY flows flows
RUN mkdir -p /var/lib/studyflow && chown 10001:10001 /var/lib/studyflow
# A number, so that Kubernetes can tell that it is not root (`runAsNonRoot`).
USER 10001:10001
ENV HOME=/var/lib/studyflow
CMD ["studyflow", "--help"]
