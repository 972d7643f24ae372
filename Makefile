# Everything one runs here. `make` alone lists it. ARGS goes on to the tool behind a target, BACKEND chooses one store:
#   make demo ARGS="--port 9000"      make test BACKEND=sqlite ARGS="-k transfer"
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# Tests wait for servers, files and clocks half of the time.
JOBS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 2)
python := .venv/bin/python
wallet := .venv/bin/wallet-gql
no_skips := $(if $(filter-out 0,$(WALLET_TEST_NO_SKIPS)),-p tests.plugins.no_skips)
pytest := $(python) -m pytest $(no_skips) $(if $(BACKEND),--backend "$(BACKEND)")
workers := -p tests.plugins.by_file -n $(JOBS)
parallel := $(pytest) $(workers)
smoking = $(shell grep -rl --include='test_*.py' mark.smoke tests)

# Some containers set this, and then each of the hundreds of processes compiles the whole wallet anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help bootstrap demo test trials all smoke soak compare bench coverage lint format schema lock test-deps site clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

bootstrap: ## make .venv from requirements.lock (every target below does this first)
	@scripts/bootstrap

demo: bootstrap ## a wallet with two people, a merchant and some money, on a fresh database
	@$(wallet) demo $(ARGS)

test: bootstrap ## lints, types, import directions, then the tests; of each server backend the short conformance
	@scripts/check
	@$(parallel) -m "not trial and not soak" $(ARGS)

trials: bootstrap ## kills, stops, mutants, and the whole conformance of the backends with servers
	@$(parallel) -m "trial and not soak" $(ARGS)

all: bootstrap ## the tests of `make test` and `make trials` in one run, without lints, as CI has them
	@$(parallel) --durations=30 --durations-min=10 $(ARGS)

smoke: bootstrap ## the fast few tests that show an installation works
	@$(pytest) -m smoke $(smoking) $(ARGS)

soak: bootstrap ## the trials for hours, at random: kill -9, races, histories
	@scripts/soak $(ARGS)

compare: bootstrap ## put the backends side by side, into docs/comparison.md
	@$(python) scripts/compare.py $(ARGS)

bench: bootstrap ## transfers per second
	@$(python) benchmarks/ledger.py $(ARGS)

coverage: bootstrap ## which branches the tests reach
	@rm -f .coverage .coverage.*
	@$(python) -m coverage run -m pytest $(workers) $(if $(BACKEND),--backend "$(BACKEND)") $(ARGS)
	@$(python) -m coverage combine --quiet
	@$(python) -m coverage report

lint: bootstrap ## what `make test` checks before the tests
	@scripts/check

format: bootstrap ## put the code into shape, mend what can be mended
	@$(python) -m ruff check --fix-only --quiet
	@$(python) -m ruff format

schema: bootstrap ## write schema.graphql anew, and the pages that are made from code
	@$(wallet) schema >schema.graphql.new || { rm -f schema.graphql.new; exit 1; }
	@mv schema.graphql.new schema.graphql
	@$(python) scripts/docs.py
	@$(python) clients/python/generate.py

lock: ## write requirements.lock anew: the newest versions that pyproject.toml allows
	@scripts/lock $(ARGS)

test-deps: ## install the system programs that some tests use (root)
	@scripts/test-deps

site: bootstrap ## the documentation as a site, in build/site; fails if a link leads nowhere
	@$(python) scripts/site.py

clean: ## remove .venv, caches and reports
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov build dist
	find src tests benchmarks scripts -name __pycache__ -type d -prune -exec rm -rf {} +
