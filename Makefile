PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.installed
EXTRAS := .[kaggle,test,book]
SMOKE := HW3_PROFILE=smoke HW3_DATA=$(CURDIR)/build/smoke/data HW3_RUNS=$(CURDIR)/build/smoke/runs
export NO_ALBUMENTATIONS_UPDATE := 1
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help book test html pdf execute check opening colab lock clean

help:  ## list the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

book: $(READY)  ## run the notebooks that changed, in a copy, and render them: build/book/html
	@$(BIN)/python tools/book.py book

test: check  ## lint, pairs, unit tests, every notebook on tiny data
	OMP_NUM_THREADS=1 $(BIN)/pytest -q -n auto --dist loadfile
	rm -rf build/smoke
	$(SMOKE) OMP_NUM_THREADS=1 $(BIN)/pytest -q -p no:cacheprovider -n auto --dist loadfile \
	  --nbval-lax --nbval-current-env book

html: $(READY)  ## render the outputs as they are committed: build/html
	@$(BIN)/python tools/book.py html

pdf: $(READY)  ## print the outputs as they are committed: build/book.pdf (needs chromium)
	@$(BIN)/python tools/book.py pdf

execute: $(READY)  ## run the notebooks that changed and write their outputs into the tree
	@$(BIN)/python tools/book.py execute

check: $(READY)  ## lint and format, and that each .py and .ipynb hold the same cells
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@$(BIN)/python tools/book.py check

opening: $(READY)  ## write the badge and the set-up cell into every notebook's .py
	@$(BIN)/python tools/book.py opening

colab: $(READY)  ## zip what a notebook needs on Colab: build/hw3-colab.zip
	@$(BIN)/python tools/book.py colab

lock:  ## pin what the ranges in pyproject.toml give today (Python 3.11, Linux, x86-64)
	$(PYTHON) -m venv --clear build/lock
	build/lock/bin/pip install -q -e '$(EXTRAS)'
	build/lock/bin/pip freeze --all --exclude-editable --exclude pip > requirements.lock
	rm -rf build/lock

clean:  ## remove everything that was built, the environment excepted
	rm -rf build .pytest_cache .ruff_cache

# The pins are for one platform; any other installs from the ranges.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hw3 needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	@if $(BIN)/python -c 'import sys; from sysconfig import *; \
	  sys.exit((get_python_version(), get_platform()) != ("3.11", "linux-x86_64"))'; \
	then $(BIN)/pip install -q -r requirements.lock && $(BIN)/pip install -q --no-deps -e .; \
	else $(BIN)/pip install -q -e '$(EXTRAS)'; fi
	@touch $@
