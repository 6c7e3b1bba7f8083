# Everything runs in .venv, which is made once from Python >= 3.11, pip and the lock file.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SOURCES := src tests docs benchmarks examples papers
# Two test processes of one thread each: on few cores OpenMP threads of several processes fight.
ONE_THREAD := OMP_NUM_THREADS=1
PROCESSES ?= 2

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo test lint bench reproduce docs clean

help: ## Say what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(READY) ## Make .venv (once; again only when pyproject.toml or constraints.txt changed)

demo: $(READY) ## Train under attack with privacy, four ways, on real data: one table, one report
	$(BIN)/fedsieve demo

test: lint docs ## Every check: format, lint, types, doors, documentation, tests, coverage floor
	$(ONE_THREAD) $(BIN)/pytest -n $(PROCESSES) --cov

lint: $(READY) ## Format, lint, types and doors only
	$(BIN)/ruff format --check $(wildcard $(SOURCES))
	$(BIN)/ruff check $(wildcard $(SOURCES))
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY) ## Measure against peers (each script prints ratios of one run)
	@set -e; for script in $(sort $(wildcard benchmarks/*.py)); do \
	  case $$script in */_*|*/common_job.py) continue;; esac; \
	  echo "== $$script"; $(BIN)/python $$script; \
	done

reproduce: demo ## The demo, then every published result that papers/ repeats, in full
	$(ONE_THREAD) $(BIN)/fedsieve reproduce --full

docs: $(READY) ## Build the documentation into site/
	$(BIN)/mkdocs build --quiet --strict

clean: ## Remove what was built and measured; .venv stays
	rm -rf build dist site runs .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache \
	  .hypothesis .import_linter_cache
	find src tests docs benchmarks examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A Python without ensurepip (some distributions split it off) still gets its environment: its own
# pip then fills it.
INSTALL = $$(test -x $(BIN)/pip && echo $(BIN)/python -m pip || echo $(PYTHON) -m pip --python $(BIN)/python) \
  install --quiet --disable-pip-version-check --constraint constraints.txt --editable

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else f"{sys.executable} is Python {v[0]}.{v[1]}; FedSieve needs 3.11, 3.12 or 3.13: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || $(PYTHON) -m venv --clear --without-pip .venv
	@echo "Installing into .venv: some minutes the first time, nothing afterwards ..."
	@$(INSTALL) ".[dev,docs]"
	@touch $@
