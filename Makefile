# Each target makes the virtual environment itself when it is missing or older than the files that describe it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test slow lint bench mutants docs clean

help:
	@echo "make demo    train and attack eight small networks on the bundled digits, write demo/report.html"
	@echo "make test    run the test suite (set EIGENCODE_DATA to include real MNIST and CIFAR-10)"
	@echo "make slow    run the long tests too"
	@echo "make lint    check format, style and types"
	@echo "make bench   measure speed and memory against peers, write benchmarks/results/"
	@echo "make mutants change one place at a time in three folders and run their tests (two hours), write benchmarks/results/mutants.md"
	@echo "make docs    build the documentation into site/"
	@echo "make clean   remove the environment and everything built"

# torch comes first and alone: nothing else may choose its version.
$(VENV)/.package: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) torch
	$(PIP) --editable .
	@touch $@

# foolbox and torchattacks are peers to compare with; the latter asks for a version of requests that it does not need.
$(VENV)/.test: $(VENV)/.package
	$(PIP) --editable '.[test,attacks,cluster,postgresql]' foolbox tqdm
	$(PIP) --no-deps torchattacks
	@touch $@

$(VENV)/.lint: $(VENV)/.package
	$(PIP) --editable '.[lint]'
	@touch $@

$(VENV)/.mutants: $(VENV)/.test
	$(PIP) --editable '.[mutants]'
	@touch $@

$(VENV)/.docs: $(VENV)/.package
	$(PIP) --editable '.[docs]'
	@touch $@

demo: $(VENV)/.package
	$(BIN)/eigencode reproduce demo --store demo/store.sqlite --out demo

# One thread for each of two processes: most tests are small. Each takes half of the files, and then what the other has left.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist worksteal

slow: $(VENV)/.test
	$(BIN)/python -m pytest

lint: $(VENV)/.lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test
	$(BIN)/python -m benchmarks

mutants: $(VENV)/.mutants
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.mutants

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) site demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
