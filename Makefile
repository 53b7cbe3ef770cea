# make demo   set-up, then the main job on the embedded data (at most 4 minutes on 2 cores)
# make test   set-up, lint, types, then the tests (at most 10 minutes in all)
.PHONY: demo test test-slow lint clean
PYTHON ?= python3.11
BIN := .venv/bin

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

demo: .venv/installed
	$(BIN)/python -m supermix_pl.experiments.demo

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/python -m pytest -m "not slow" -n 2

test-slow: lint
	$(BIN)/python -m pytest

clean:
	rm -rf .venv build dist demo *.egg-info
