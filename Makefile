# Two commands set everything up from a fresh clone: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
JOBS ?= 2  # processes of the tests, of one thread each: several threads in each would wait for one another
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: help install quickstart test test-all test-browser test-notebooks test-kills browser audit errors lint types check bench-training bench-curriculum bench-streaming clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch  # first, so that nothing else chooses its build
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

install: $(STAMP)  ## Make the virtual environment and install mebert with its development tools.

quickstart: $(STAMP)  ## Train, evaluate and save a multi-exit BERT on the built-in task (no download).
	OMP_NUM_THREADS=1 $(BIN)/python -m mebert fit --config configs/quickstart.yaml  # two threads can stall on a busy machine

test: $(STAMP)  ## Run the tests that take less than 10 minutes together.
	$(PYTEST) -n $(JOBS) --dist worksteal

test-all: test-notebooks  ## Run all tests, the slow ones too, and the notebooks.
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'slow or not slow'

browser: $(STAMP)  ## Install Chromium for the tests of the pages, where there is none.
	@which chromium chromium-browser google-chrome 2>/dev/null | grep -q . || ls ~/.cache/ms-playwright/chromium* >/dev/null 2>&1 || \
	  (command -v apt-get >/dev/null && apt-get update -q && apt-get install -y -q --no-install-recommends chromium) || \
	  $(BIN)/python -m playwright install chromium

test-browser: browser  ## Open the pages in a real Chromium, which is installed if there is none.
	MEBERT_BROWSER=required $(PYTEST) -m browser tests/browser

test-notebooks: $(STAMP)  ## Run the notebooks from top to bottom, without a network.
	HF_HUB_OFFLINE=1 WANDB_MODE=offline env -u MPLBACKEND $(PYTEST) -n $(JOBS) --nbmake --nbmake-timeout=900 notebooks

lint: $(STAMP)  ## Check style and formatting.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)  ## Check types.
	$(BIN)/mypy

test-kills: $(STAMP)  ## Kill trainings at 50 random moments and compare with the uninterrupted ones (six minutes).
	OMP_NUM_THREADS=1 $(BIN)/python tests/resume/kills.py --kills 50

errors: $(STAMP)  ## Provoke every known fault and write docs/errors.md.
	$(BIN)/python -m tests.faults.write

audit: $(STAMP)  ## Ask about known vulnerabilities of every pinned version.
	$(BIN)/python .ci/audit.py

check: lint types test  ## What CI runs.

bench-training: $(STAMP)  ## Time and memory of a multi-exit training step against plain fine-tuning.
	$(BIN)/python benchmarks/training_cost.py

bench-curriculum: $(STAMP)  ## Time of an epoch with a curriculum against a plain one.
	$(BIN)/python benchmarks/curriculum_cost.py

bench-streaming: $(STAMP)  ## Peak memory of predict over 10,000 and a million rows.
	$(BIN)/python benchmarks/streaming.py

clean:  ## Remove the virtual environment and caches; runs/ stays.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
