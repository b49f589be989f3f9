# Everything works in a fresh clone with Python >= 3.11 and make; `make help` lists the targets.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PREFECT_PORT ?= 4200
MLFLOW_PORT ?= 5000
STUDY ?= images/cnn-lstm/study-short.yaml
# Anything that understands `--file`, `--tag` and a context: docker build, podman build, buildah build,
# docker buildx build --push; with options, such as the builds of torch for CUDA:
#   make images BUILD="docker build --build-arg TORCH_INDEX=..."
BUILD ?= docker build
REGISTRY ?= registry.example/studyflow
TAG ?= 0.2.0
KUBECTL ?= kubectl
OVERLAY ?= local
TRIAL_IMAGES := trial-base blackbox cnn-lstm weights epidemic fusion
# How many tests run side by side: one more than there are cores, since many tests wait. Those of a file share
# their servers, and do not run side by side.
JOBS ?= 3
SIDE_BY_SIDE := --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder
export PYTHONUNBUFFERED := 1

.PHONY: help study study-full ui images deploy test test-fast test-long faults test-ui test-cluster check measures lock base-image audit sbom format clean $(addprefix image-,orchestrator $(TRIAL_IMAGES))

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "studyflow needs Python 3.11 or newer; this is " + sys.version.split()[0] + " (make PYTHON=python3.11 ...)")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

study: $(READY) ## Tune a CNN+LSTM under Prefect, a few minutes; STUDY=file runs another
	$(BIN)/python flows/run_study.py $(STUDY)

study-full: $(READY) ## The same study with its whole budget of 30 trials
	$(BIN)/python flows/run_study.py images/cnn-lstm/study.yaml

ui: $(READY) ## Show studies in Prefect's and MLflow's pages, until Ctrl-C
	$(BIN)/studyflow ui --prefect-port $(PREFECT_PORT) --mlflow-port $(MLFLOW_PORT)

images: $(addprefix image-,orchestrator $(TRIAL_IMAGES)) ## Build all images; BUILD, REGISTRY, TAG

image-orchestrator:
	$(BUILD) --file Dockerfile --tag $(REGISTRY)/orchestrator:$(TAG) .

$(addprefix image-,$(TRIAL_IMAGES)): image-%:
	$(BUILD) --file images/$*/Dockerfile --tag $(REGISTRY)/$*:$(TAG) .

deploy: ## Set up everything on the cluster that kubectl points to, and wait; OVERLAY=local
	$(KUBECTL) apply -k k8s/overlays/$(OVERLAY)
	$(KUBECTL) --namespace studyflow wait --for condition=Available --timeout 15m deployment --all

test-fast: $(READY) ## Run the tests that start no server and no study of many processes
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) --numprocesses logical -m "not slow and not long" $(PYTEST)

test: $(READY) ## Run all tests but long forms and those of browser and cluster, JOBS side by side
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(PYTEST)

test-long: $(READY) ## Run the long forms of tests, for a night; their results go to docs/reliability.md
	STUDYFLOW_BROWSER_TESTS=1 $(BIN)/python -m pytest -m long -p tests.faults.report \
		--write-long-run --write-reliability docs/reliability.md $(SIDE_BY_SIDE) $(PYTEST)

faults: $(READY) ## Run the tests of the fault table, and write docs/reliability.md
	$(BIN)/python -m pytest -p tests.faults.report -m "fault and not cluster and not long" --write-reliability docs/reliability.md

test-ui: $(READY) ## Run the tests in a browser: Chromium with chromedriver; pictures in build/screenshots
	STUDYFLOW_BROWSER_TESTS=1 $(BIN)/python -m pytest tests/ui -m browser $(SIDE_BY_SIDE) $(PYTEST)

test-cluster: $(READY) ## Run the tests that need a cluster: the one of KUBECONFIG, with the images there
	STUDYFLOW_CLUSTER_TESTS=1 STUDYFLOW_TEST_REGISTRY=$(REGISTRY) STUDYFLOW_TEST_TAG=$(TAG) \
		$(BIN)/python -m pytest tests/e2e $(SIDE_BY_SIDE) $(PYTEST)

check: $(READY) ## Lint, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

measures: ## Print the measures of the code: sizes, docstrings, asserts, private reaches
	$(PYTHON) scripts/measure_code.py

reference: $(READY) ## Write docs/reference/ anew from docstrings and models
	$(BIN)/python scripts/write_reference.py

lock: $(READY) ## Write locks/ anew from constraints.txt: what images install, by digest; on Linux x86-64, Python 3.11
	$(BIN)/python scripts/write_locks.py

base-image: ## Have all images begin with IMAGE=NAME@sha256:DIGEST
	$(PYTHON) scripts/write_locks.py --base-image $(IMAGE)

audit: $(READY) ## Ask for known vulnerabilities of all that images install
	$(BIN)/python scripts/audit.py

sbom: $(READY) ## Write the bill of materials of this environment to build/sbom.cdx.json; images carry their own
	mkdir -p build
	$(BIN)/python -m cyclonedx_py environment --no-validate --spec-version 1.6 --output-reproducible --output-format JSON --output-file build/sbom.cdx.json $(BIN)/python

format: $(READY) ## Mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and all studies of this folder
	rm -rf $(VENV) .studyflow build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
