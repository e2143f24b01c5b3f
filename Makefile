# Everything lives in one virtual environment at the root; needs only python3 (3.11+) and PyPI.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
SEED ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test check format lock warm bench evaluate evaluate-full clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 15

setup: $(READY) ## Install the locked versions into .venv

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "keywatch needs Python 3.11 or newer, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(READY)

demo: $(READY) ## Watch the whole thing at work on simulated traffic (SEED=n for another fleet)
	@$(BIN)/keywatch demo --seed $(SEED)

test: $(READY) ## Run the tests
	$(BIN)/pytest -q

check: $(READY) ## Format, lint, types, tidiness, doctests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_tidy.py
	$(BIN)/pytest -q --doctest-modules detector models replay

format: $(READY) ## Format the code and fix what ruff can fix
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

warm: $(READY) ## Compile the kernels now instead of at the first start
	$(BIN)/keywatch warm

bench: $(READY) ## Measure replay speed on a generated log (about two minutes)
	$(BIN)/python -m benchmarks.replay_speed

evaluate: $(READY) ## Measure recall at 2, 10 and 40 false alerts a week on one world (SEED=n)
	$(BIN)/keywatch evaluate --seeds $(SEED)

evaluate-full: $(READY) ## The same on the ten worlds of the published figures (hours; goes on where it stopped)
	$(BIN)/keywatch evaluate --seeds reported

lock: ## Resolve the newest versions into requirements.lock (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --extra demo --group dev -o requirements.lock pyproject.toml

clean: ## Remove the environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist
