# `make demo` and `make test` set up all they need in .venv, from nothing but Python 3.10 or later and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PLUGINS := plugins/deqlight-sspms plugins/deqlight-lyapunov
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -q

.PHONY: help setup demo test test-all check format bench clean

help:
	@echo "make demo      train and test the default experiment (a ResNet, read as an ODE, on real digits)"
	@echo "make test      the test suite"
	@echo "make test-all  the test suite with its longer sweeps"
	@echo "make check     ruff, mypy, import-linter, codespell"
	@echo "make format    let ruff format the code"
	@echo "make bench     the benchmarks, results in benchmarks/*.json"
	@echo "make clean     remove the virtual environment and run folders"

$(VENV)/user: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/developer: pyproject.toml $(addsuffix /pyproject.toml,$(PLUGINS))
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[dev]" $(addprefix --editable ,$(PLUGINS))
	@touch $@ $(VENV)/user

setup: $(VENV)/developer

demo: $(VENV)/user
	$(BIN)/deqlight fit -c resnet_digits
	$(BIN)/deqlight test -c resnet_digits --ckpt_path best

test: $(VENV)/developer
	$(PYTEST) -m "not slow"

test-all: $(VENV)/developer
	$(PYTEST)

check: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

format: $(VENV)/developer
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/developer
	$(BIN)/python benchmarks/step_time.py
	$(BIN)/python benchmarks/work_precision.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memory.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/depth.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/peers.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/sde.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/ood.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/regularizers.py

clean:
	rm -rf $(VENV) runs
