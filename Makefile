# Everything runs in .venv, which make builds from requirements.lock: nothing else has to be installed.
SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV := $(CURDIR)/.venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# Neither the caller's virtual environment nor the caller's Airflow takes part.
export VIRTUAL_ENV := $(VENV)
export PATH := $(BIN):$(PATH)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH PYTHONHOME CONDA_PREFIX PIP_USER PIP_TARGET PIP_PREFIX UV_SYSTEM_PYTHON
unexport $(filter AIRFLOW_%,$(.VARIABLES))
# Python keeps what it compiled: every process here starts in half the time.
unexport PYTHONDONTWRITEBYTECODE

# What requirements.lock holds: every published extra, and the dependency groups of developers.
EXTRAS := train serving airflow stack mlflow
GROUPS := test check

.PHONY: help demo test check up down bench bench-accuracy env lock clean install

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(INSTALLED) ## Run the whole pipeline on sample digits, through a real Airflow (KEEP=1 leaves it up)
	@$(BIN)/mnist-ops demo $(if $(filter-out 0,$(KEEP)),--keep)

test: export AIRFLOW_HOME := $(CURDIR)/.local/test-airflow
test: $(INSTALLED) ## Run every test: unit, contract, Airflow and end to end, on two processes
	@$(BIN)/pytest -n 2

check: $(INSTALLED) ## Check style, types, the direction of imports and plain words
	@printf '\n== ruff check\n'
	@$(BIN)/ruff check
	@printf '\n== ruff format --check\n'
	@$(BIN)/ruff format --check
	@printf '\n== mypy\n'
	@$(BIN)/mypy
	@printf '\n== lint-imports\n'
	@PYTHONPATH=plugins $(BIN)/lint-imports
	@printf '\n== plain words\n'
	@$(BIN)/python -m tests.support.plain_words

up: $(INSTALLED) ## Start the embedded stack: Airflow, MongoDB's protocol, S3 and sample images
	@$(BIN)/mnist-ops stack up

down: $(INSTALLED) ## Stop the embedded stack; its data stays in .local/
	@$(BIN)/mnist-ops stack down

bench: $(INSTALLED) ## Measure speed and memory beside the plain script
	@$(BIN)/python -m benchmarks.run --write

bench-accuracy: $(INSTALLED) ## Train on all of MNIST (MNIST_OPS_DATA_DIR) with five seeds, into docs/accuracy.md
	@$(BIN)/python -m benchmarks.accuracy --write
	@$(BIN)/python -m benchmarks.time_to_accuracy --write

env: ## Write .env with fresh secrets for docker-compose.yaml; name misspelt variables of one that exists
	@$(call require-python,$(PYTHON),$(NAME_A_PYTHON))
	@$(PYTHON) -m mnist_ops.local.secrets_file .env

lock: $(BIN)/uv ## Resolve the dependencies again, into requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-annotate --no-header \
	  $(addprefix --extra ,$(EXTRAS)) $(addprefix --group ,$(GROUPS)) \
	  pyproject.toml -o requirements.lock
	@echo "requirements.lock: $$(grep -c '^[A-Za-z0-9]' requirements.lock) requirements"

clean: ## Remove caches, build results and .venv; .local/ and .env stay
	@find . \( -path ./.venv -o -path ./.local -o -path ./.git \) -prune -o -name __pycache__ -exec rm -rf {} +
	@rm -rf .venv dist .coverage .coverage.* .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache

install: $(INSTALLED) ## Build .venv from requirements.lock; every target above does it when it is needed

NAME_A_PYTHON := name one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)

# $(call require-python,command,advice): one line and exit 1 unless the command is a Python we support.
define require-python
command -v $(1) >/dev/null || { \
  echo "$(1) was not found: MNIST Ops needs Python 3.11, 3.12 or 3.13; $(2)" >&2; exit 1; }; \
$(1) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' || { \
  echo "$(1) is $$($(1) --version 2>&1): MNIST Ops needs Python 3.11, 3.12 or 3.13; $(2)" >&2; exit 1; }
endef

$(BIN)/uv: requirements-bootstrap.txt
	@if test -x $(BIN)/python; then \
	  $(call require-python,$(BIN)/python,remove it with: make clean); \
	else \
	  $(call require-python,$(PYTHON),$(NAME_A_PYTHON)); \
	  echo "Making .venv with $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(VENV) >/dev/null 2>&1 || { \
	    echo "$(PYTHON) cannot make virtual environments: install its venv module (Debian, Ubuntu: python3-venv)" >&2; \
	    rm -rf $(VENV); exit 1; }; \
	fi
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements-bootstrap.txt
	@touch $@

$(INSTALLED): $(BIN)/uv requirements.lock pyproject.toml
	@echo "Installing requirements.lock into .venv"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
