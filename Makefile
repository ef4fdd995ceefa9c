# A machine with Python 3.11, make and git is enough; everything else goes into .venv, from requirements.lock.

PYTHON ?= python3
PROCESSES ?= 4
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input
GUIDE := build/atheris

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test chaos fuzz check bench lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## the environment in .venv (every other target does it by itself)

run: $(READY) ## lodge the example batch through the sandbox agencies, and show where each one ended
	@$(BIN)/lodge example

test: $(READY) ## all tests; ARGS="-k gateway" passes arguments to pytest, PROCESSES=0 keeps them in one process
	@$(BIN)/python -m pytest -n $(PROCESSES) --dist loadscope --no-loadscope-reorder $(ARGS)

chaos: $(READY) ## break everything that can break, and judge (docs/chaos.md); ARGS="--list", "--only NAME --seed N"
	@$(BIN)/python -m tests.chaos $(ARGS)

fuzz: $(READY) ## bytes that nobody would send, to every parser (docs/fuzzing.md); ARGS="--list", "--seconds 3600 --only NAME"
	@test -d $(GUIDE)/atheris || $(PIP) install --quiet --require-hashes --no-deps --target $(GUIDE) -r tests/fuzz/requirements.txt \
		|| echo "atheris cannot be installed here; going on without a guide" >&2
	@PYTHONPATH=$(GUIDE) $(BIN)/python -m tests.fuzz $(ARGS)

check: $(READY) ## style, types, layers, and tables against migrations
	@echo "== ruff" && $(BIN)/ruff check && $(BIN)/ruff format --check
	@echo "== mypy" && $(BIN)/mypy
	@echo "== layers" && $(BIN)/lint-imports
	@echo "== migrations" && $(BIN)/lodge db drift

bench: $(READY) ## measure; ARGS passes arguments
	@$(BIN)/python -m benchmarks $(ARGS)

lock: $(BIN)/pip ## resolve requirements.lock anew from pyproject.toml
	@echo "Resolving requirements.lock ..."
	@$(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet --disable-pip-version-check uv
	@build/lock/bin/uv pip compile pyproject.toml --quiet --upgrade --extra dev --universal --generate-hashes \
		--no-emit-index-url --no-header --output-file requirements.lock

clean: ## remove the environment, caches and local state
	rm -rf $(VENV) build dist var .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(BIN)/pip requirements.lock pyproject.toml
	@echo "Installing the locked dependencies into $(VENV) ..."
	@$(PIP) install --quiet --require-hashes -r requirements.lock
	@$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# Debian ships venv apart from Python, and without it `python3 -m venv` leaves an environment that has no pip.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or later is needed; name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@echo "Making $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV) >/dev/null 2>&1 || { \
		{ [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; } \
			|| { echo "python3-venv is missing; install it (apt-get install python3-venv) and repeat" >&2; exit 1; }; \
		echo "Installing python3-venv ..."; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y python3-venv >/dev/null \
			&& $(PYTHON) -m venv --clear $(VENV); }
