# Two commands on a fresh machine: `make demo` and `make test`. Both need Python >= 3.11 only.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test format clean

$(BIN)/lensflow: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "lensflow needs Python >= 3.11: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[ps1]"
	@touch $@

$(BIN)/.test: $(BIN)/lensflow
	$(BIN)/python -m pip install --quiet -e ".[test]"
	@touch $@

demo: $(BIN)/lensflow
	$(BIN)/lensflow demo --folder demo

test: $(BIN)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m pytest

format: $(BIN)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) demo
