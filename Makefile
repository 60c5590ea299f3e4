# Two commands: `make demo` and `make test`. Both make their own environment in .venv first; a second run finds it there.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help install demo test lint format

help:
	@echo "make demo     install, then the whole path on packaged data; ends with a report in demo-output/"
	@echo "make test     install, lint, then all tests but the slow ones"
	@echo "make lint     ruff, pyright, import rules, napari manifest"
	@echo "make format   let ruff rewrite what it can"
	@echo "make install  only the environment, in $(VENV)"

install: $(INSTALLED)

# constraints.txt pins what is tested. No system library is needed: nothing here draws on a screen.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11: name a newer one, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: install
	$(BIN)/napari-disentangle demo --out demo-output --overwrite

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-disentangle

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
