# Two commands: `make demo` and `make test`. Both make their own environment in .venv first; a second run finds it there.
# The tests of the window also need a screen, which `make test` installs where it may.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# A screen without a monitor, and what PyQt6, PySide6 and vispy load to draw on it in software. Debian's and Ubuntu's names;
# what is not named comes with these (fonts with fontconfig, mesa's drivers with GLX). Measured: docs/decisions/0001.
SCREEN_PACKAGES := xvfb libegl1 libgl1 libglx-mesa0 libdbus-1-3 libfontconfig1 libglib2.0-0 libxkbcommon-x11-0 \
	libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 libxcb-randr0 libxcb-shape0
SCREEN_LIBRARIES := libEGL.so.1 libGL.so.1 libGLX_mesa.so.0 libdbus-1.so.3 libfontconfig.so.1 libgthread-2.0.so.0 libxkbcommon-x11.so.0 \
	libxcb-cursor.so.0 libxcb-icccm.so.4 libxcb-keysyms.so.1 libxcb-randr.so.0 libxcb-shape.so.0

# What draws, listens or runs in threads; the rest has no widget of its own. `make test PYSIDE=tests/gui` runs all.
PYSIDE := $(addprefix tests/gui/test_,five_clicks.py opening.py selecting.py exporting.py bad_input.py closing.py worker.py \
	scatter.py gallery.py volumes.py plots.py)

.DEFAULT_GOAL := help
.PHONY: help install system demo test lint format

help:
	@echo "make demo     install, then the whole path on packaged data; ends with a report in demo-output/"
	@echo "make test     install, lint, then all tests but the slow ones; the window's with PyQt6 and with PySide6"
	@echo "make lint     ruff, pyright, import rules, napari manifest"
	@echo "make format   let ruff rewrite what it can"
	@echo "make install  only the environment, in $(VENV)"
	@echo "make system   only what the window's tests draw on: Xvfb and libraries, with apt-get where we are root"

install: $(INSTALLED)

# constraints.txt pins what is tested.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "$(PYTHON) is older than Python 3.11: name a newer one, e.g. make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null \
		|| { echo "$(PYTHON) cannot make environments: install its venv package (Debian: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

# Everything else runs without. On macOS and Windows Qt brings all it needs.
system:
	@[ "$$(uname)" = Linux ] || exit 0; \
	there() { command -v Xvfb && $(or $(wildcard $(BIN)/python),$(PYTHON)) -SEc 'import ctypes, sys; [ctypes.CDLL(name) for name in sys.argv[1:]]' $(SCREEN_LIBRARIES); }; \
	there >/dev/null 2>&1 && exit 0; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends -o Dpkg::Use-Pty=0 $(SCREEN_PACKAGES) >/dev/null; \
		there >/dev/null 2>&1 && exit 0; \
	fi; \
	echo "The window's tests need Xvfb and libraries that are missing here. Debian, Ubuntu: sudo apt-get install --no-install-recommends $(SCREEN_PACKAGES)" >&2; exit 1

demo: install
	$(BIN)/napari-disentangle demo --out demo-output --overwrite

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/npe2 validate napari-disentangle

test: system lint
	OMP_NUM_THREADS=1 QT_API=pyqt6 $(BIN)/python -m pytest -n auto --dist loadfile
	OMP_NUM_THREADS=1 QT_API=pyside6 $(BIN)/python -m pytest -n auto --dist loadfile $(PYSIDE)

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
