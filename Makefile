# Every target does its own set-up: a virtual environment in .venv with exactly the locked packages.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test lint lock bench clean

run: .venv/.run ## make run PROMPT="..." ARGS="--enable-guardrails"
	$(BIN)/python main.py $(ARGS) $(if $(PROMPT),"$(PROMPT)")

test: .venv/.dev
	$(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev
	$(BIN)/python benchmarks/bench_startup.py

# The locked files follow the ranges in pyproject.toml.
lock: .venv/.dev
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  pyproject.toml -o requirements.txt
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
	  -c requirements.txt --extra dev pyproject.toml -o requirements-dev.txt

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/.run: requirements.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.txt
	touch $@

.venv/.dev: requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
	touch .venv/.run $@
