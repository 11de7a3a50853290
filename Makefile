# Each target prepares its own tools first (a virtual environment in .venv with the locked packages); needs Python 3.11
# to 3.13, git and make. Pass arguments with ARGS: make test ARGS="-k resume"; choose a Python with PYTHON=python3.12.

.DEFAULT_GOAL := help
.PHONY: help demo test check bench serve setup clean

# An active environment of the user's must not be mistaken for ours.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONPATH PYTHONHOME
# A virtual environment's commands find each other.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

BIN := .venv/bin
ARGS ?=
PYPROJECTS := $(wildcard pyproject.toml clonk_*/pyproject.toml)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.ready ## start Clonk, let Claude Code answer, use a tool and stream; needs no account
	@$(BIN)/clonk demo $(ARGS)

serve: .venv/.ready ## run the server on ports 4444 and 4445
	@$(BIN)/clonk serve $(ARGS)

test: .venv/.ready ## run the tests, in one process more than the machine has processors; ARGS="-n 0" in this one
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

check: .venv/.ready ## lint, formatting, types, import directions, lock file
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/uv pip check --quiet --python $(BIN)/python
	UV_PYTHON=$(BIN)/python UV_PYTHON_DOWNLOADS=never $(BIN)/uv lock --check --quiet

bench: .venv/.ready ## measure speed and memory against the limits
	$(BIN)/python tests/bench/run.py $(ARGS)

setup: .venv/.ready ## only prepare .venv

.venv/.ready: uv.lock $(PYPROJECTS) .ci/setup.sh
	@PYTHON="$(PYTHON)" .ci/setup.sh

clean: ## remove .venv and everything else that was made
	rm -rf .venv .tools dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
