# Two commands: `make demo` shows what it does, `make test` shows that it is right.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-all lint clean

demo: $(VENV)/.demo-ready
	$(BIN)/resnetkit demo

test: $(VENV)/.test-ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-all: $(VENV)/.test-ready lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "slow or not slow"

lint: $(VENV)/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "resnetkit needs Python 3.11 or newer: make demo PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# constraints.txt pins every version, torch above all: an open range would fetch gigabytes for a GPU.
$(VENV)/.demo-ready: $(BIN)/python constraints.txt pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test-ready: $(BIN)/python constraints.txt pyproject.toml
	$(PIP) install --quiet --constraint constraints.txt --editable ".[dev]"
	@touch $@ $(VENV)/.demo-ready

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
