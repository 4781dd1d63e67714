# Two commands: `make demo` does the whole job on the embedded set, `make test` runs every check.
PYTHON ?= python3
BIN := .venv/bin

demo: .venv/installed
	$(BIN)/detect demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.PHONY: demo test
