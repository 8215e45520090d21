# make demo: set up, run the whole job with a simulated camera. make test: set up, run the tests.
PYTHON ?= python3
VENV ?= .venv
DEMO ?= demo
RUN := $(VENV)/bin/python

TESTS ?= --every-message=told
FAST := tests/test_settings.py tests/test_plain_yaml.py tests/test_printable.py tests/files tests/jobs tests/hardware/alpaca
FOR_FAST := pytest hypothesis requests

.PHONY: help install demo warm test test-oldest lint docs bench-quick speed clean

help:
	@echo "make demo         a simulated camera, a small campaign with it, its model: into $(DEMO)/"
	@echo "make install      what a run needs, into $(VENV)/"
	@echo "make warm         compile ahead of the first run"
	@echo "make test         all tests; make test TESTS='tests/files tests/jobs': some of them"
	@echo "make test-oldest  the fast part of them with the oldest packages of requirements.txt"
	@echo "make lint         style, types, import rules"
	@echo "make docs         the pages of docs/ as HTML: docs/_build/html/index.html"
	@echo "make bench-quick  accuracy against simulated truth, one law"
	@echo "make speed        one table of speed: this, other programs, the floor"
	@echo "make clean        remove caches, the demo and the virtual environment"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements.txt requirements-dev.txt | $(VENV)/bin/python
	$(RUN) -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(VENV)/.run

install: $(VENV)/.run

demo: $(VENV)/.run
	$(RUN) examples/demo.py $(DEMO)

warm: $(VENV)/.run
	$(RUN) examples/warm_up.py

test: $(VENV)/.dev
	$(RUN) -m pytest $(TESTS)

test-oldest: $(VENV)-oldest/.made
	$(VENV)-oldest/bin/python -m pytest -p no:cacheprovider -W ignore::DeprecationWarning $(FAST)

$(VENV)-oldest/.made: requirements.txt requirements-oldest.txt
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip install --quiet -r requirements.txt -c requirements-oldest.txt $(FOR_FAST)
	@touch $@

lint: $(VENV)/.dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --strict -p darkpipe -p steps -p hardware -m run_pipeline -m master_controller
	$(VENV)/bin/lint-imports

docs: $(VENV)/.dev
	$(RUN) -m sphinx -W --keep-going -E -b html docs docs/_build/html

bench-quick: $(VENV)/.dev
	$(RUN) benchmarks/simulated_truth.py --law physics

speed: $(VENV)-speed/.made
	$(VENV)-speed/bin/python benchmarks/run.py

$(VENV)-speed/.made: requirements.txt requirements-dev.txt requirements-benchmarks.txt
	$(PYTHON) -m venv $(VENV)-speed
	$(VENV)-speed/bin/python -m pip install --quiet -r requirements-benchmarks.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-oldest $(VENV)-speed $(DEMO) docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
