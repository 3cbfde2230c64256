# Everything here needs only Python 3.11 with venv and pip, make and a C compiler.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
FEAST := .venv-feast

.PHONY: help install demo test test-feast lint perf clean

help:  ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Make .venv with the package and what tests and linters need.

$(INSTALLED): setup.cfg setup.py pyproject.toml $(wildcard featurestore/_*.[ch])
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	touch $@

demo: install  ## Serve 100,000 simulated users on 127.0.0.1:8000 until Ctrl-C.
	@exec $(BIN)/featurestore demo

test: install  ## Run the tests.
	$(BIN)/python -m pytest

test-feast: install $(FEAST)/.installed  ## Run Feast's own client against the server; Feast has an environment of its own.
	FEATURESTORE_COMMAND=$(BIN)/featurestore $(FEAST)/bin/python -m pytest -c tests/feast_client/pytest.ini tests/feast_client

$(FEAST)/.installed: tests/feast_client/requirements.txt
	$(PYTHON) -m venv $(FEAST)
	$(FEAST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

lint: install  ## Run the linters (luacheck is the Debian package lua-check).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy featurestore ingest
	$(BIN)/mypy tests perf
	$(BIN)/python tests/lint_lua.py

perf: install  ## Measure against peers, in under 10 minutes (needs wrk; webdis and redis-benchmark are used where installed).
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[perf]'
	$(BIN)/python perf/compare.py
	$(BIN)/python perf/redis_time.py
	$(BIN)/python perf/ingest.py
	$(BIN)/python perf/ingest_floor.py
	$(BIN)/python perf/vectors.py
	$(BIN)/python perf/soak.py

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) $(FEAST) build dist *.egg-info featurestore/*.so
