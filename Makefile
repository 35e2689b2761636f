# Two commands do everything on a fresh machine with Python >= 3.11 and git: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
WORKERS ?= 2
NODES   ?= 1
CLUSTERS ?= 1
CLUSTER_TESTS ?= tests/cluster tests/contract/cluster tests/objectstore

.PHONY: image image-lock install install-dev demo test check fast static lock docs bench sim clean
.PHONY: cluster-build cluster cluster-down test-cluster bench-cluster bench-recovery bench-exec bench-buckets

install: $(VENV)/.runtime          ## the environment in .venv, without the tools for development
install-dev: $(VENV)/.dev          ## the same with the tools

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=…"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	@echo "Setting up .venv (once) …"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/runtime.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

demo: install                      ## the whole story on the embedded sandbox; KEEP=1 leaves it running
	@$(BIN)/reconciler demo $(if $(KEEP),--keep)

test: install-dev                  ## every test that this machine has the parts for
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(TESTS)

cluster-build: install-dev         ## build the test node's programs and images, once (tests/cluster/README.md)
	$(BIN)/python -m tests.cluster.node build

cluster: install-dev               ## real Kubernetes in network namespaces of its own; NODES=2, CLUSTERS=2
	$(BIN)/python -m tests.cluster.node up --nodes $(NODES) --clusters $(CLUSTERS)

cluster-down: install-dev          ## take it away again
	$(BIN)/python -m tests.cluster.node down

test-cluster: install-dev          ## the tests that need a real cluster, on two nodes and a second cluster
	$(BIN)/python -m tests.cluster.node run --nodes 2 --clusters 2 -- $(BIN)/python -m pytest --durations=15 $(CLUSTER_TESTS)

static: install-dev                ## format, lint, types, import contracts, tidy
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m pytest -q tests/test_tidy.py

fast: install-dev
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow and not real"

check: static fast                 ## before every commit

image: install-dev                 ## the image of the reconciler and its movers, as build/image.tar; NAME=registry/name:tag
	$(BIN)/python deploy/image/build.py $(if $(NAME),--name $(NAME))

image-lock:                        ## write down the Debian packages that the image is made of
	$(PYTHON) deploy/image/build.py --lock

sim: install-dev                   ## seeded simulation: make sim SEED=7
	$(BIN)/python -m pytest -q tests/simulation/test_seeded.py --seed=$(or $(SEED),1)

docs: install-dev                  ## regenerate the reference pages from the models
	$(BIN)/python docs/generate.py

bench: install-dev                 ## performance, as ratios in one run (docs/benchmarks.md)
	$(BIN)/python -m bench

bench-cluster: install-dev         ## captures and restores on a real API server, beside Velero's figures
	$(BIN)/python -m tests.cluster.node run -- $(BIN)/python -m bench.cluster

bench-recovery: install-dev        ## a database of 1,000,000 rows and 200 objects: destroyed, and back
	$(BIN)/python -m tests.cluster.node run -- $(BIN)/python -m bench.recovery

bench-exec: install-dev            ## streams out of pods and into them, beside kubectl exec
	$(BIN)/python -m tests.cluster.node run -- $(BIN)/python -m bench.exec

bench-buckets: install-dev         ## a location in a bucket beside one in a directory
	$(BIN)/python -c "from tests.cluster.node.build import build; build(['minio'])"
	$(BIN)/python -m bench.buckets

lock:                              ## pin the dependencies again (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml requirements/build.in -o requirements/runtime.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header -c requirements/runtime.txt --group dev pyproject.toml -o requirements/dev.txt

clean:
	rm -rf $(VENV) .demo .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
