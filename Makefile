# `make demo` does the whole job on the embedded set, `make test` runs every check, `make docs` builds the
# site, `make fuzz` damages files at random.
PYTHON ?= python3
BIN := .venv/bin

demo: .venv/installed
	$(BIN)/detect demo

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(MAKE) --jobs 2 types suite  # the suite waits now and then, types do not

types:
	$(BIN)/pyrefly check --summary=none

suite:
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest -n 3 --dist worksteal

docs: .venv/installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

fuzz: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m tools.fuzz --seconds 60

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

.PHONY: demo test types suite docs fuzz
