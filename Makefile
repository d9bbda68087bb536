# Everything from a bare clone with python3 (3.11 or later) and make; see `make help`.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
TOOLS := .venv/tools
BENCH := .venv/bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Installs a package of the system where that is possible: as root, with apt-get.
apt = if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "installing $(1) ..."; \
	apt-get update -qq && \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	fi

.PHONY: help demo test prove chaos chaos-short model model-short bench bench-growth bench-instructions bench-faults bench-sdk check redis

# tests of the system in which nothing hangs on how quick it is
NO_CLOCK := tests/system/test_benchmarks.py tests/system/test_rq_tools.py

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

demo: $(INSTALLED) ## trains 18 classifiers of handwritten digits and keeps the best
	@$(BIN)/penstock run examples/digits/workflow.yaml

test: $(TOOLS) redis ## all tests, on fakeredis, the embedded Valkey and a real Redis 7
	@$(BIN)/pytest -n 2 tests/unit tests/state tests/examples tests/sdk tests/commands $(NO_CLOCK)
	@$(BIN)/pytest tests/chaos tests/system $(NO_CLOCK:%=--ignore=%)

prove: $(TOOLS) redis ## the long forms of the system tests, with the figures that they measure
	@$(BIN)/pytest tests/system tests/examples tests/commands --full --timeout 900 -k "rq_tools or demo or placement or guarantees or code_roots or fan_outs"

chaos: $(TOOLS) redis ## faults on purpose, judged by a checker (MINUTES=30 ONLY=kill-job,soak SEED=7)
	@PYTHONPATH=tests $(BIN)/python -m chaos $(if $(MINUTES),--minutes $(MINUTES)) \
		$(if $(ONLY),--only $(ONLY)) $(if $(SEED),--seed $(SEED)) $(CHAOS)

chaos-short: ## the same with small numbers, in under 5 minutes
	@$(MAKE) --no-print-directory chaos CHAOS='--short --jobs 2'

model: $(TOOLS) ## the scripts against the reference model, and every interleaving of small graphs (RUNS=100000)
	@cd tests && ../$(BIN)/python -m model $(if $(RUNS),--runs $(RUNS)) $(if $(SEED),--seed $(SEED))

model-short: $(TOOLS) redis ## the same with small numbers: 2,000 runs, small searches, and the product broken on purpose
	@$(BIN)/pytest tests/model

bench: $(BENCH) redis ## six workloads on Penstock, its peers and the floor (ONLY=penstock,huey WORKLOADS=W1,W4 ROUNDS=5)
	@$(BIN)/python -m benchmarks.speed $(if $(ONLY),--only $(ONLY)) \
		$(if $(WORKLOADS),--workloads $(WORKLOADS)) $(if $(ROUNDS),--rounds $(ROUNDS))

bench-growth: $(BENCH) redis ## what grows with the queue, the width, the chain, the nodes, the slots (ONLY=queue MOST=100000)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.growth $(if $(ONLY),--only $(ONLY)) \
		$(if $(MOST),--most $(MOST))

bench-instructions: $(TOOLS) redis ## what the server spends on a job and a beat, in instructions (needs valgrind)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.growth.instructions

bench-faults: $(TOOLS) redis ## the same faults on RQ, Celery and Dramatiq (ONLY=kill-worker SCALE=0.5 AT_ONCE=1)
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.faults $(if $(ONLY),--only $(ONLY)) \
		$(if $(SCALE),--scale $(SCALE)) $(if $(AT_ONCE),--at-once $(AT_ONCE)) $(if $(KEEP),--keep $(KEEP))

bench-sdk: $(TOOLS) redis ## slurm-sdk's own examples on Slurm and on Penstock (needs slurm-wlm; ROUNDS=5)
	@command -v slurmctld >/dev/null || { $(call apt,slurm-wlm); }
	@PYTHONPATH=tests $(BIN)/python -m benchmarks.sdk $(if $(ROUNDS),--rounds $(ROUNDS))

check: $(TOOLS) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@MYPYPATH=.venv/types $(BIN)/mypy
	@MYPYPATH=.venv/types $(BIN)/mypy tests/typed/programs.py
	@$(BIN)/lint-imports

redis:
	@command -v redis-server >/dev/null || { $(call apt,redis-server); }
	@command -v redis-server >/dev/null || { \
		echo "There is no redis-server, so the tests that need it are skipped (fail, with CI=true)."; \
		echo "Install Redis 7 or later: apt-get install redis-server, brew install redis, ..."; \
		[ "$$CI" != true ]; \
	}

# Once, and again when pyproject.toml changes.
$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Penstock needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) --version)."; \
		echo "Name another one: make PYTHON=python3.12 ..."; \
		exit 1; \
	}
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call apt,python3-venv); }
	@echo "installing Penstock into .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet -e '.[examples]'
	@touch $@

# What only tests and checks need. Of slurm-sdk a test reads the published examples, and it is not run
# there: so it goes without what it needs. mypy does not follow an editable install whose
# root is the package, so it gets a folder that holds it by name.
$(TOOLS): $(INSTALLED)
	@echo "installing the tools of tests and checks ..."
	@$(BIN)/pip install --quiet -e '.[examples,test,check]'
	@$(BIN)/pip install --quiet --no-deps slurm-sdk==0.4.6
	@mkdir -p .venv/types && ln -sfn ../.. .venv/types/penstock
	@touch $@

# What draws the plots of the benchmarks.
$(BENCH): $(TOOLS)
	@$(BIN)/pip install --quiet -e '.[examples,test,check,bench]'
	@touch $@
