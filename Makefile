# Every target does its own set-up: a virtual environment in .venv with exactly the locked packages.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint lock bench clean

# The prompt travels through the environment as it was typed: no shell and no make may read anything into it.
override PROMPT := $(value PROMPT)
export PROMPT

# make run PROMPT='What is the sky?' ARGS='--enable-guardrails'
run: .venv/.run
	@if [ -n "$$PROMPT" ]; then exec $(BIN)/python main.py $(ARGS) --prompt="$$PROMPT"; else exec $(BIN)/python main.py $(ARGS); fi

test: .venv/.dev
	$(BIN)/python -m pytest -q -n 3 --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python benchmarks/suite.py bench-results
	$(BIN)/python benchmarks/bench_limits.py
	$(BIN)/python benchmarks/bench_stitching.py
	$(BIN)/python benchmarks/bench_hedging.py --median-ms 200
	$(BIN)/python benchmarks/bench_guard_filter.py --rounds 1
	$(BIN)/python benchmarks/bench_toxicity.py
	$(BIN)/python benchmarks/compare_clients.py
	$(BIN)/python benchmarks/compare_programs.py --only ours

# The locked files follow the ranges in pyproject.toml.
lock: .venv/.dev
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  -c requirements.txt --extra dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv bench-results .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.run: requirements.txt
	@echo "setting up .venv, once" >&2
	@$(PYTHON) -m venv .venv >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt >&2
	@touch $@

.venv/.dev: requirements-dev.txt
	@echo "setting up .venv for development, once" >&2
	@$(PYTHON) -m venv .venv >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt >&2
	@touch .venv/.run $@
