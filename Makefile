# `make demo` and `make test` need nothing but Python 3.11 or newer: they set everything up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-browser test-ray notebooks lint types docs docs-check benchmark tiny clean

demo: $(INSTALLED)  ## checkpoints take turns on a few questions, in colour
	$(BIN)/langgraph-switch demo

test: $(INSTALLED)  ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest

test-browser: $(INSTALLED)  ## the playground in headless Chromium
	command -v chromium >/dev/null || $(BIN)/playwright install chromium || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs

test-ray: $(INSTALLED)  ## rollouts and evaluation on a Ray cluster of this machine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray

notebooks: $(INSTALLED)  ## execute the notebooks on the embedded family
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -p no:socket -p no:asyncio -o addopts= --nbmake notebooks

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy

docs: $(INSTALLED)  ## write the generated parts of README and docs
	$(BIN)/python docs/generate.py

docs-check: $(INSTALLED)  ## fail if they have drifted
	$(BIN)/python docs/generate.py --check

benchmark: $(INSTALLED)  ## speed against plain generate() and the published loop
	$(BIN)/python benchmarks/switching.py --json benchmarks/results.json

tiny: $(INSTALLED)  ## train the embedded family again, from scratch
	$(BIN)/python -m recipes.tiny_family

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
