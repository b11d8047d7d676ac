# Everything that one does in a checkout. `make help` lists it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# DVC starts the stages with `python`, which must be the environment's own.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Without bytecode every start of every stage compiles its imports again.
unexport PYTHONDONTWRITEBYTECODE
# The environment's own interpreter and packages, the checkout's own modules, and nothing else.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONOPTIMIZE PYTHONWARNINGS PYTHONINSPECT

python := .venv/bin/python
# What runs the pipeline needs git too, and hears so before anything is installed: setup, which they
# call first, finds this set for it.
run mnist up serve-flows: need := --runs
# ARGS goes to the command behind a target: make run ARGS="--set train.epochs=3"
ARGS ?=

.PHONY: help setup run test test-slow fuzz torture audit lint format mnist ui up down cluster serve-flows bench schema lock clean

help: ## List what can be made
	@echo "Graftline: labelled images in, a tracked, versioned, reproducible classifier out."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo '  ARGS="..." goes on to the command: make run ARGS="--set train.epochs=3"'

setup: ## Make .venv from requirements.lock (once; the others call it)
	@for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if "$$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' \
	    >/dev/null 2>&1; then exec "$$candidate" scripts/install.py $(need); fi; \
	done; \
	echo "setup: no Python 3.11, 3.12 or 3.13 was found as python3, python3.13, python3.12 or" \
	  "python3.11; install one, or name it: make setup PYTHON=/path/to/python3" >&2; exit 1

run: setup ## Run the pipeline with params.yaml: load, train, evaluate, register
	@$(python) -m flows.train $(ARGS)

test: lint ## Lint, types, import arrows, and all the fast tests
	@$(python) -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

test-slow: setup ## The slow tests and those with a browser
	@$(python) -m pytest -m "slow or browser" $(ARGS)

fuzz: setup ## Hostile input at nine doors, a minute each (ARGS="--seconds 600 params")
	@$(python) -m tests.hostile.fuzz $(ARGS)

audit: setup ## What is known against the locked packages (ARGS=--strict: fail if unasked)
	@$(python) -m scripts.audit $(ARGS)

torture: setup ## Kill the pipeline 60 times, let bits flip 40 times, look for losses (ARGS="--seed 1")
	@$(python) -m tests.torture $(ARGS)

mnist: setup ## The full job, in examples/mnist: all 70 000 images (DATA=folder if you have them)
	@$(python) -m graftline.data.mnist $(if $(DATA),"$(DATA)")
	@$(python) -m graftline run -C examples/mnist $(ARGS)

ui: setup ## Prefect's and MLflow's web pages, on this machine alone
	@$(python) -m graftline ui $(ARGS)

up: setup ## Servers and a worker for the schedules in prefect.yaml, until make down
	@$(python) -m graftline up $(ARGS)

down: setup ## Stop what make up and make cluster started
	@$(python) -m graftline down $(ARGS)

cluster: setup ## A Dask scheduler and two workers on this machine, until Ctrl-C or make down
	@$(python) -m graftline cluster $(ARGS)

serve-flows: setup ## Keep the schedule from this terminal, without a worker, until Ctrl-C
	@$(python) -m flows.serve $(ARGS)

bench: setup ## Measure against others (ARGS=extraction, memory, mnist or run: a part)
	@$(python) -m benchmarks $(ARGS)

lint: setup ## ruff, mypy and the import arrows
	@ruff check
	@ruff format --check
	@mypy
	@lint-imports --no-logo

format: setup ## Let ruff mend and format the code
	@ruff check --fix
	@ruff format

schema: setup ## Write what is made from the code: the schema, the references, the picture
	@$(python) -m scripts.parameters

lock: setup ## Resolve pyproject.toml into requirements.lock
	@uv pip compile pyproject.toml --extra cluster --extra onnx --extra openvino --extra postgres \
	  --extra s3 --group dev --group published --universal --python-version 3.11 \
	  --no-emit-package openvino-telemetry --generate-hashes --no-emit-index-url --no-header \
	  --quiet -o requirements.lock $(ARGS)

clean: ## Remove outputs, caches and var/ (asks first; YES=1 does not)
	@if [ ! -x $(python) ]; then echo "clean: there is no .venv, so nothing has run here"; else \
	  $(python) -m scripts.clean $(if $(YES),--yes); fi
