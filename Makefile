# Everything runs in a virtual environment of its own: only git, make and Python 3.11+ are needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
WORKERS ?= auto
SHARE ?= first

.DEFAULT_GOAL := help
.PHONY: help install bench bench-quick coverage demo demo-serve dist flaky release-check
.PHONY: patroni test test-all test-bare test-docs-long test-faults test-limits test-matrix test-share
.PHONY: lint prose types contracts pytest migrations docs images format clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	@echo "Installing into $(VENV) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

install: $(VENV)/.installed ## Make the virtual environment

# The demo needs a small part of what the tests need. Most modules that pip would compile are never imported.
UV := $(shell command -v uv 2>/dev/null)
$(VENV)/.demo-installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
ifdef UV
	@echo "Installing the demo into $(VENV) with uv, which takes seconds ..."
	@test -x $(BIN)/python || $(UV) venv --quiet --python $(PYTHON) $(VENV)
	@$(UV) pip install --quiet --python $(BIN)/python --editable '.[demo]'
else
	@echo "Installing the demo into $(VENV) with pip (half a minute, seconds with uv) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --editable '.[demo]'
endif
	@touch $@

demo: $(VENV)/.demo-installed ## See it work: a Django project, its jobs and a worker, on an embedded PostgreSQL
	@$(BIN)/python -m examples.django_demo

demo-serve: $(VENV)/.demo-installed ## Serve the project of the demo, with its admin
	@$(BIN)/python -m examples.django_demo serve

test: lint types contracts pytest ## Lint, types, import contracts, and the whole test suite

test-all: test test-bare test-docs-long test-matrix test-faults test-limits ## All there is, at full size: before a release (hours)

test-share: $(VENV)/.installed ## The tests of one of CI's two Pythons: what is cheap, and a share of what is not
	@PROCRASTINATE_TESTS_SHARED=$(SHARE) $(BIN)/python -m tests.flaky run -n $(WORKERS) --dist worksteal $(ARGS)

test-faults: $(VENV)/.installed ## Break everything that can break, at full size, and write the table of docs/reliability.md
	@$(BIN)/python -m tests.faults $(ARGS)
	@test -n "$(ARGS)" || PROCRASTINATE_TESTS_LONG=1 $(BIN)/python -m pytest -n $(WORKERS) \
		tests/properties tests/interleavings tests/testing/test_limits_against_postgresql.py \
		tests/django/test_hostile_rows_and_urls.py

test-limits: $(VENV)/.installed ## Limits at full size: many keys, jobs and workers, and what they cost, one after the other
	@PROCRASTINATE_TESTS_LONG=1 $(BIN)/python -m pytest -s tests/worker/test_limits.py \
		tests/worker/test_limits_at_size.py tests/worker/test_limits_over_time.py tests/worker/test_changed_limits.py \
		tests/worker/test_limits_with_other_options.py tests/worker/test_limits_next_to_older_releases.py \
		tests/worker/test_limits_under_faults.py tests/worker/test_paused_limits.py tests/worker/test_unique_keys.py \
		tests/core/test_lines_in_front.py tests/core/test_paused_queues_in_front.py tests/core/test_cost_without_limits.py \
		tests/worker/test_speed_of_limits.py $(ARGS)

test-bare: $(VENV)/.installed ## Tests that use more than git, make and Python, on a machine that seems to lack it
	@$(BIN)/python -m tests.bare -n $(WORKERS) $(ARGS)

test-docs-long: docs ## What the pages say, with the installations of the tutorials (minutes, and an index of packages)
	@PROCRASTINATE_TESTS_LONG=1 $(BIN)/python -m pytest -n $(WORKERS) tests/documentation tests/browser/test_site_search.py $(ARGS)

test-matrix: ## The engine on each supported PostgreSQL, SQLAlchemy, Django and Python that can be had here
	@$(PYTHON) -m tests.matrix

lint: prose ## Lint and format check, and the words that the project does without
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

prose: $(VENV)/.installed ## Count the words that the project does without: tests/prose/words.toml
	@$(BIN)/python -m tests.prose $(ARGS)

types: $(VENV)/.installed ## Check types, strictly
	@$(BIN)/mypy

contracts: $(VENV)/.installed ## Check that imports run one way, those of types included
	@$(BIN)/lint-imports --no-logo --no-cache pyproject.toml .importlinter-with-types.toml

pytest: $(VENV)/.installed ## The test suite alone
	@$(BIN)/python -m pytest -n $(WORKERS) $(ARGS)

flaky: $(VENV)/.installed ## Name the tests that failed and passed when run again: tests/flaky.toml
	@$(BIN)/python -m tests.flaky report

$(VENV)/.coverage-installed: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[coverage]'
	@touch $@

coverage: $(VENV)/.coverage-installed ## Measure what the tests run of the package, and write the table of CONTRIBUTING.md
	@$(BIN)/python -m tests.coverage_table -n $(WORKERS) $(ARGS)

$(VENV)/.release-installed: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[release]'
	@touch $@

dist: $(VENV)/.release-installed ## Build the wheel and the sdist into dist, and use each from a fresh environment
	@$(BIN)/python -m tests.release

release-check: $(VENV)/.release-installed ## The same, and that version, changelog and tag are those of a release
	@$(BIN)/python -m tests.release --final

$(VENV)/.bench-installed: $(VENV)/.installed
	@echo "Installing what the benchmarks need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

bench: $(VENV)/.bench-installed ## Measure this project and its peers, in turn (about a quarter of an hour)
	@$(BIN)/python -m benchmarks $(ARGS)

bench-quick: $(VENV)/.bench-installed ## The main measurements, smaller (under two minutes)
	@$(BIN)/python -m benchmarks --quick $(ARGS)

patroni: ## Install Patroni into build/patroni, for the faults of a cluster that fails over (it also needs etcd)
	@$(PYTHON) -m venv build/patroni
	@build/patroni/bin/python -m pip install --quiet --disable-pip-version-check 'patroni[etcd3,psycopg3]>=4.1,<5'

images: $(VENV)/.installed ## Take the pictures of the dashboard in docs/images again (it needs chromium)
	@PROCRASTINATE_TESTS_IMAGES=1 $(BIN)/python -m pytest -q tests/browser/test_images.py

docs: $(VENV)/.docs ## Build the site of the documentation into build/site
	@# -E reads all pages: from pages that it does not read again, Sphinx keeps no phrases for the search.
	@$(BIN)/python -m sphinx -q -E -W --keep-going -b html docs build/site
	@echo "build/site/index.html"

$(VENV)/.docs: $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

migrations: $(VENV)/.installed ## Emit the Django migrations and schema.sql from the Alembic revisions
	@$(BIN)/python -m procrastinate.adapters.django.emit_migrations
	@$(BIN)/python -m procrastinate.alembic.emit_schema

format: $(VENV)/.installed ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

clean: ## Remove whatever is ignored by git and was made here: environments, caches, sites, servers of the demo
	rm -rf .venv .venv-* .matrix .bench .demo artifacts build dist *.egg-info .coverage node_modules
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
