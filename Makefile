# Everything a user or CI runs. Only pip touches the network.
# Another interpreter: make test PYTHON=/path/to/python3.12

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS_STAMP := .venv-peers/.installed
TPU_STAMP := .venv-tpu/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUN := $(BIN)/python -m

# Examples stand in one process: the devices are set before any of them starts JAX.
DOCTEST := XLA_FLAGS="--xla_force_host_platform_device_count=2 --xla_llvm_disable_expensive_passes=true \
	--xla_backend_optimization_level=0" \
	$(RUN) pytest --doctest-modules sgdsim

# Figures are drawn to files: no display is needed.
export MPLBACKEND := Agg

.PHONY: help reproduce check test test-all bench bench-peers bench-tpu docs clean

help:  ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	@version=$$($(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])') || { \
	  echo "'$(PYTHON)' does not run: install Python 3.11, 3.12 or 3.13, or pass PYTHON=/path/to/python3" >&2; exit 1; }; \
	case $$version in 3.11|3.12|3.13) ;; *) \
	  echo "'$(PYTHON)' is Python $$version, but sgdsim needs 3.11, 3.12 or 3.13: pass PYTHON=/path/to/python3.12" >&2; exit 1;; esac
	@$(PYTHON) -m venv $(VENV) || { echo "no virtual environment could be made (on Debian: apt-get install python3-venv)" >&2; rm -rf $(VENV); exit 1; }

$(STAMP): pyproject.toml | $(BIN)/python
	@echo "installing sgdsim with all extras into $(VENV) (a few minutes the first time)"
	@$(PIP) --upgrade pip
	@$(PIP) --editable '.[all,test,docs]'
	@touch $@

$(PEERS_STAMP): pyproject.toml bench/peers/requirements.txt | $(BIN)/python
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check -e . -r bench/peers/requirements.txt
	@touch $@

$(TPU_STAMP): pyproject.toml | $(BIN)/python
	@$(BIN)/python -m venv .venv-tpu
	@.venv-tpu/bin/python -m pip install --quiet --disable-pip-version-check -e '.[all,test]' 'jax[tpu]'
	@touch $@

reproduce: $(STAMP)  ## published figures and a real data set, theory against simulation, into output/
	$(BIN)/sgdsim reproduce --all --scale smoke
	$(BIN)/sgdsim analyze diabetes

check: $(STAMP)  ## lint and types
	$(RUN) ruff check .
	$(RUN) mypy

test: check  ## everything CI runs: lint, types, fast tests, notebooks
	$(RUN) pytest tests --numprocesses 2
	$(DOCTEST)
	$(RUN) pytest --nbmake notebooks --numprocesses 2

test-all: check  ## the same, with the slow statistical tests
	$(RUN) pytest tests --numprocesses 2 -m 'slow or not slow'
	$(DOCTEST)
	$(RUN) pytest --nbmake notebooks --numprocesses 2

bench: $(STAMP)  ## speed ratios, into bench/results.json
	$(BIN)/python bench/run.py

bench-peers: $(PEERS_STAMP)  ## the same task in other libraries (downloads PyTorch), into bench/peers/results.json
	.venv-peers/bin/python bench/peers/run.py

bench-tpu: $(TPU_STAMP)  ## TPU pods compiled and counted, on any machine (downloads the compiler), into bench/tpu.md
	.venv-tpu/bin/python bench/tpu.py
	.venv-tpu/bin/python -m pytest tests/engine/run/test_tpu_compiler.py -m slow

docs: $(STAMP)  ## the web pages with the notebooks and what they print, into site/
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict

clean:  ## remove everything that make created
	rm -rf $(VENV) .venv-peers .venv-tpu output site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
