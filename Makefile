# What a person types, the continuous integration and the pre-commit hooks run: the same targets.
# VENV says where the environment is made, PYTHON which interpreter makes it.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/pip install --quiet -c constraints.txt

.PHONY: help demo install test check format lint types imports docs notebooks dist clean

help:
	@echo "make demo      install and train on real digits; takes a few minutes the first time, under one after that"
	@echo "make test      install what the tests need and run all but the slow ones"
	@echo "make check     format, lint, types, import order, all tests"
	@echo "make format    put the code into shape"
	@echo "make docs      build the documentation; open site/index.html"
	@echo "make notebooks make notebooks/ of docs/tutorials/"
	@echo "make dist      build the wheel into dist/"
	@echo "make clean     remove the environment and what was built"

demo: $(BIN)/.run
	$(BIN)/twoplayer train
	@echo
	@echo "Open the picture and the report named above in any viewer and browser. Then try:"
	@echo "  $(BIN)/twoplayer recipes                                     what else can be trained"
	@echo "  $(BIN)/twoplayer train steps=6000 latents.dim=64            change anything"
	@echo "  $(BIN)/twoplayer train --data YOUR_FOLDER data.image_size=16 your own pictures"

install: $(BIN)/.dev

$(BIN)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(BIN)/.dev: pyproject.toml constraints.txt $(BIN)/.run
	$(PIP) -e ".[dev]"
	@touch $@

test: $(BIN)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto -m "not gpu and not slow"

check: lint types imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

format: $(BIN)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(BIN)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(BIN)/.dev
	$(BIN)/mypy

imports: $(BIN)/.dev
	$(BIN)/lint-imports

docs: $(BIN)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html"

notebooks: $(BIN)/.dev
	$(BIN)/python notebooks/make.py

dist: $(BIN)/.dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

clean:
	rm -rf $(VENV) dist site
