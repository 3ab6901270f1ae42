# Two commands on a fresh machine: `make demo` and `make test`; `make test-fast` while working.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test test-fast check lock licences site sbom environment extras clean
.DEFAULT_GOAL := demo

environment: $(VENV)/.ready

# Everything by its hash but torch, of which package indexes serve builds of their own; it is pinned, and so is what it
# needs besides: nothing pulls another version.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
$(VENV)/.ready: constraints.txt requirements-lock.txt requirements-embedded.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP_INSTALL) --no-deps --require-hashes -r requirements-lock.txt
	$(PIP_INSTALL) -c constraints.txt torch
	$(PIP_INSTALL) --no-deps -e .
	$(PIP_INSTALL) --no-deps --require-hashes -r requirements-embedded.txt
	touch $@

# What pyproject.toml's extras add, by its hash; a test of an extra that is absent is skipped.
extras: $(VENV)/.extras

$(VENV)/.extras: $(VENV)/.ready requirements-extras.txt
	$(PIP_INSTALL) --no-deps --require-hashes -r requirements-extras.txt
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

# After a change of pyproject.toml's dependencies or of constraints.txt; needs uv, which the environment does not hold.
# The second list holds what the extras need beyond the first. Two extras are for tests with files of others alone.
LOCK := uv pip compile --quiet pyproject.toml -c constraints.txt --universal --generate-hashes --no-annotate \
  --no-emit-package torch --custom-compile-command "make lock" --extra dev --extra docs
lock:
	$(LOCK) -o requirements-lock.txt
	$(LOCK) --extra bench --extra cluster --extra otel --extra practice --extra rl --extra rouge --extra serve \
	  --extra tensorboard $$(sed -nE 's/^([^ =]+)==.*/--no-emit-package \1/p' requirements-lock.txt) \
	  -o requirements-extras.txt

licences: environment
	$(BIN)/python -m eval.pages.licences

# The documents as a site in site/; the notice that it silences advertises another program.
site: environment
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The tool has an environment of its own, so that its dependencies bind nothing here.
SBOM_TOOL := cyclonedx-bom==7.5.0
sbom: environment
	$(PYTHON) -m venv $(VENV)/sbom
	$(VENV)/sbom/bin/python -m pip install --quiet --disable-pip-version-check $(SBOM_TOOL)
	$(VENV)/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --validate \
	  --output-format JSON -o sbom.json $(BIN)/python

clean:
	rm -rf $(VENV) site sbom.json .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
