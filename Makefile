# Each target is enough alone on a machine with Python >= 3.11, its venv module, and make.
PYTHON ?= python3
BIN := .venv/bin
RUNS := .venv/.runs
INSTALLED := .venv/.installed

ifneq ($(wildcard ../shared/data/.),)
SEGAN_PL_TEST_DATA ?= $(CURDIR)/../shared/data
endif
ifdef SEGAN_PL_TEST_DATA
export SEGAN_PL_TEST_DATA
endif

.PHONY: install demo test test-marked test-cluster test-all lint bench lock

install: $(INSTALLED)

# The package alone: what `make demo` needs.
$(RUNS): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("segan_pl needs Python >= 3.11, this is " + \
	  sys.version.split()[0] + "; name another one: make PYTHON=python3.11")'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e .
	touch $@

# With linters and what the tests need.
$(INSTALLED): $(RUNS)
	$(BIN)/pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(RUNS)
	$(BIN)/segan_pl demo

# Two at a time, each with one thread.
test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "not slow and not real_data and not slurm"

# What `make test` leaves out, in the same way.
test-marked: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m "slow or real_data"

# Runs in a real Slurm, which Debian's slurmctld, slurmd, slurm-client and munge provide. Three at a time, since each
# often waits for Slurm.
test-cluster: $(INSTALLED)
	OMP_NUM_THREADS=1 SEGAN_PL_TEST_SLURM=required $(BIN)/python -m pytest --dist loadfile -n 3 tests/cluster

test-all: $(INSTALLED)
	$(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	@set -e; for script in benchmarks/bench_*.py; do echo "$$script"; $(BIN)/python "$$script"; done

# uv.lock again, after a change of pyproject.toml or constraints.txt: from PyPI alone, with the versions of constraints.txt.
lock:
	uv lock --no-config --default-index https://pypi.org/simple $$(sed '/^#/d; s/^/-P /' constraints.txt)
