# Two commands set everything up from a fresh clone: `make quickstart` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MINIMUM ?= .venv-min
JOBS ?= 2  # test processes, one thread each: more threads would compete for the same cores
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# Targets with `##` are the ones that `make help` lists.
.PHONY: help install quickstart test test-all test-browser test-node test-notebooks test-docs test-kills test-min browser audit errors lint types check bench-training bench-curriculum bench-streaming clean

help:  ## Show this list.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

CONSTRAINTS ?= constraints.txt

$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) torch  # first, so that nothing else chooses its build
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev]'
	@touch $(STAMP)

install: $(STAMP)  ## Create .venv and install mebert with its development tools.

quickstart: $(STAMP)  ## Train, evaluate and save a multi-exit BERT on the built-in task (no download).
	OMP_NUM_THREADS=1 $(BIN)/python -m mebert fit --config configs/quickstart.yaml  # two threads can stall on a busy machine

test: $(STAMP)  ## Run the fast tests (about 6 minutes on 2 cores).
	$(PYTEST) -n $(JOBS) --dist worksteal

test-all: test-notebooks  ## Run all tests, the slow ones too, and the notebooks.
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'slow or not slow'

test-docs: $(STAMP)  # the commands, examples and figures of README, docs and notebooks
	$(PYTEST) -n $(JOBS) --dist worksteal -m 'slow or not slow' tests/docs

browser: $(STAMP)  # install Chromium for the tests of the pages, unless there is one
	@which chromium chromium-browser google-chrome 2>/dev/null | grep -q . || ls ~/.cache/ms-playwright/chromium* >/dev/null 2>&1 || \
	  (command -v apt-get >/dev/null && apt-get update -q && apt-get install -y -q --no-install-recommends chromium) || \
	  $(BIN)/python -m playwright install chromium

test-browser: browser  ## Test the HTML pages in Chromium, which is installed if missing.
	MEBERT_BROWSER=required $(PYTEST) -m browser tests/browser

test-node: $(STAMP)  ## Test an exported model in Node (20 or newer), with packages from npm.
	cd tests/node && ONNXRUNTIME_NODE_INSTALL=skip npm ci --ignore-scripts --no-audit --no-fund
	$(PYTEST) -m slow tests/onnx/test_node.py

test-notebooks: $(STAMP)  ## Run the notebooks from top to bottom, offline.
	HF_HUB_OFFLINE=1 WANDB_MODE=offline env -u MPLBACKEND $(PYTEST) -n $(JOBS) --nbmake --nbmake-timeout=900 notebooks

test-min: constraints-min.txt  ## Run the fast tests with the oldest versions that pyproject.toml allows.
	$(MAKE) VENV=$(MINIMUM) CONSTRAINTS=constraints-min.txt test

lint: $(STAMP)  ## Check style, formatting and the direction of imports.
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --quiet --check .
	@report=$$($(BIN)/lint-imports --no-cache --no-logo 2>&1) && echo "$$report" | tail -n 1 || { echo "$$report"; exit 1; }

types: $(STAMP)  ## Check types.
	$(BIN)/mypy

test-kills: $(STAMP)  # kill trainings at 50 random moments and compare with uninterrupted ones (6 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python tests/resume/kills.py --kills 50

errors: $(STAMP)  # provoke every known fault and write docs/errors.md
	$(BIN)/python -m tests.faults.write

audit: $(STAMP)  ## Look up known vulnerabilities of every pinned version.
	$(BIN)/python .ci/audit.py

check: lint types test  ## Run lint, types and test.

bench-training: $(STAMP)  # time and memory of a multi-exit training step against plain fine-tuning.
	$(BIN)/python benchmarks/training_cost.py

bench-curriculum: $(STAMP)  # time of an epoch with a curriculum against a plain one.
	$(BIN)/python benchmarks/curriculum_cost.py

bench-streaming: $(STAMP)  # peak memory of predict over 10,000 and a million rows.
	$(BIN)/python benchmarks/streaming.py

clean:  ## Remove the virtual environments and caches; runs/ stays.
	rm -rf $(VENV) $(MINIMUM) .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
