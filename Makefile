# Every target sets up what it needs in .venv; only Python 3.11 or newer and make have to be there.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all browser lint types format bench readme clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY)  ## Create .venv and install the package with its tools

$(READY): setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[test,dev]'
	@touch $@

demo: $(READY)  ## Train ST-DIM on real Pong frames for a few minutes and print its probe table
	$(BIN)/lightning_zoo fit --config stdim_pong.yaml --config quick.yaml
	$(BIN)/lightning_zoo probe --ckpt_path last --baselines
	@echo "Compare runs with:  $(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db"

test: $(READY)  ## Run the fast tests
	$(BIN)/python -m pytest -q

test-all: $(READY)  ## Run the slow tests as well: learning runs and notebooks
	$(BIN)/python -m pytest -q -m "not gpu and not network and not browser"

browser: $(READY)  ## Run the tests that need a Chromium; skipped where there is none
	$(BIN)/python -m pytest -q -rs -m browser tests/browser

lint: $(READY)  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)  ## Check types
	$(BIN)/mypy

format: $(READY)  ## Repair style where it can be repaired
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)  ## Measure speed and memory, as ratios within one run
	$(BIN)/python tests/benchmarks/run.py

readme: $(READY)  ## Rewrite the README's table of methods from the code
	$(BIN)/lightning_zoo list --readme README.md

clean:  ## Remove the environment and caches; data and runs stay
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
