# Two commands do everything: `make demo` and `make test`. `make help` lists the rest.
.DEFAULT_GOAL := help
SHELL := /bin/bash
BIN := .venv/bin
SETUP_STAMP := .venv/.overspill-setup

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(SETUP_STAMP): requirements.lock pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh

.PHONY: setup
setup: $(SETUP_STAMP) ## Virtual environment, pinned packages, redis-server
	@bash scripts/setup.sh --check

.PHONY: setup-tests
setup-tests: setup # What only tests need: PyTorch, Prometheus, Alertmanager, Chromium, ffprobe
	@bash scripts/setup.sh --tests
	@bash scripts/setup.sh --torch

.PHONY: demo
demo: setup ## A burst of 12 renders on embedded defaults: in-house first, the rest on Modal
	@$(BIN)/overspill demo

.PHONY: demo-budget
demo-budget: setup ## The same burst with a budget that runs out: jobs are held, then refused; never over
	@$(BIN)/overspill demo-budget

.PHONY: demo-train
demo-train: setup ## Train, survive a kill, and render a video with the result (installs PyTorch)
	@bash scripts/setup.sh --torch
	@$(BIN)/overspill demo-train

.PHONY: up
up: setup ## The whole stack for development, until Ctrl-C
	@$(BIN)/overspill up

.PHONY: check
check: setup ## Lint, types, import contracts and the unit tests, in about a minute and a half
	@bash scripts/test.sh $(BIN)/python tests/unit -m "not long"

.PHONY: test
test: setup-tests ## Lint, types, import contracts, and every test but those of test-long
	@bash scripts/test.sh $(BIN)/python -m "not long"

.PHONY: test-long
test-long: setup-tests ## The long tests: the short chaos run, training by hand, engines that hang
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m long

.PHONY: chaos
chaos: setup ## Chaos run: kill, stop, cut and slow processes under load (SEED=7 JOBS=1000 FAULTS=200)
	@bash scripts/setup.sh --torch
	@$(BIN)/python -m tests.chaos --seed $(or $(SEED),7) --jobs $(or $(JOBS),1000) --faults $(or $(FAULTS),200)

.PHONY: chaos-train
chaos-train: setup ## One training run, killed five times, preempted and moved, ends with the same weights (SEED=7)
	@bash scripts/setup.sh --torch
	@$(BIN)/python -m tests.chaos.training --seed $(or $(SEED),7)

.PHONY: bench-ledger
bench-ledger: setup ## Speed and memory of the ledger (JOBS=5000)
	@$(BIN)/python -m benchmarks.ledger --jobs $(or $(JOBS),5000)

.PHONY: bench-exporter
bench-exporter: setup ## Duration of a scrape with a million jobs in the ledger (JOBS=1000000)
	@$(BIN)/python -m benchmarks.exporter --jobs $(or $(JOBS),1000000)

.PHONY: bench-modal-local
bench-modal-local: setup ## Spawns, polls, cold starts and memory of modal_local
	@$(BIN)/python -m benchmarks.modal_local

.PHONY: bench-overflow
bench-overflow: setup ## Follow calls to their end: delay, CPU, memory, money (CALLS=10000 FOLLOWERS=1)
	@$(BIN)/python -m benchmarks.overflow --calls $(or $(CALLS),10000) --followers $(or $(FOLLOWERS),1)

.PHONY: lint
lint: setup ## ruff, mypy (strict), import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

.PHONY: format
format: setup ## Format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: docs
docs: setup ## Write the pages and files that are made from the code: settings, metrics, alerts, dashboards, GPU classes
	@$(BIN)/python -m infra.settings.page
	@$(BIN)/python -m monitoring.alerting
	@$(BIN)/python -m monitoring.dashboards
	@$(BIN)/python -m monitoring.documentation
	@$(BIN)/python -m modal_apps.gpu_table > docs/gpu-classes.md

.PHONY: lock
lock: setup ## Resolve pyproject.toml into requirements.lock (needs uv on the PATH)
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --quiet -o requirements.lock

.PHONY: clean
clean: ## Remove the virtual environment and all generated files
	@rm -rf .venv .overspill out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
