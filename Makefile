# Everything here needs only Python 3.11 or later with venv and pip, and make. A C compiler makes the result faster.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PACKAGE := setup.cfg setup.py pyproject.toml $(wildcard featurestore/native/*.[ch])
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
FEAST := .venv-feast
OPENAPI := .venv-openapi
LOCK := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links \
	--custom-compile-command 'make lock'
# Most tests wait, for servers to start and deadlines to pass, so two at a time end sooner even on one processor.
JOBS ?= 2
SPREAD := --numprocesses $(JOBS) --dist worksteal

.PHONY: help install demo quick test servers test-servers test-cluster coverage sanitize test-ports test-go test-node node-package
.PHONY: test-feast test-openapi lint twins pages docs docs-serve perf release lock clean

help:  ## Show the targets.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Make .venv with the package alone; the command is .venv/bin/featurestore.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(PACKAGE) | $(BIN)/python
	$(PIP_INSTALL) --editable .
	@$(BIN)/python -m featurestore.native
	@touch $@

# An extra brings the package with it, so that .venv is made in one go whatever is asked for first.
$(VENV)/.%: $(PACKAGE) | $(BIN)/python
	$(PIP_INSTALL) --editable '.[$*]'
	@$(BIN)/python -m featurestore.native
	@touch $@ $(VENV)/.installed

demo: $(VENV)/.swagger  ## Serve 100,000 simulated users on 127.0.0.1:8000 (FEATURESTORE_BIND) until Ctrl-C.
	@exec $(BIN)/featurestore demo

quick: $(VENV)/.test  ## Run what needs no server: unit tests, and the scripts on fakeredis. Under 20 seconds.
	$(BIN)/python -m pytest $(SPREAD) --quick tests/unit tests/contract

test: $(VENV)/.test  ## Run all tests, JOBS (2) at a time.
	$(BIN)/python -m pytest $(SPREAD)

servers: $(VENV)/.test  ## Fetch every Redis and Valkey that the scripts are for, as far as this machine can have them.
	$(BIN)/python tests/every_server.py fetch

test-servers: $(VENV)/.test  ## Run the contract tests on each, over RESP2 and RESP3; WRITE=1 writes the table of docs/servers.md.
	$(BIN)/python tests/every_server.py test $(if $(WRITE),--write) $(SPREAD)

test-cluster: $(VENV)/.test  ## Run the contract tests on clusters of Redis 7.0 and Valkey 9, and break those under load.
	CLUSTERS_UNDER_TEST="valkey9 redis7" $(BIN)/python -m pytest $(SPREAD) tests/contract tests/http -k cluster-
	CLUSTERS_UNDER_TEST="valkey9 redis7" $(BIN)/python -m pytest tests/faults/test_faulty_clusters.py

coverage: $(VENV)/.test  ## Show how much of the package unit, contract and HTTP tests execute.
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(SPREAD) tests/unit tests/contract tests/http -k "not redis62 and not redis7 and not cluster-valkey9"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

sanitize: $(VENV)/.test  ## Run the C extensions' tests with gcc's address and undefined-behaviour sanitizers.
	$(BIN)/python tests/sanitize.py

test-ports: test-go test-node  ## Test the ports to other languages.

test-go: $(VENV)/.test  ## Test the Go package, and the recipes for Java, Ruby and PHP (CONTRIBUTING.md names Debian's packages).
	$(BIN)/python -m pytest -rs $(SPREAD) tests/ports/test_go.py tests/ports/test_recipes.py

test-feast: $(VENV)/.test $(FEAST)/.installed  ## Run Feast's own client against the server; Feast has an environment of its own.
	COMMAND_UNDER_TEST=$(BIN)/featurestore $(FEAST)/bin/python -m pytest -c tests/feast_client/pytest.ini tests/feast_client

$(FEAST)/.installed: tests/feast_client/requirements.txt
	$(PYTHON) -m venv $(FEAST)
	$(FEAST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

test-openapi: $(VENV)/.test $(OPENAPI)/.installed  ## Send the server requests that schemathesis makes of its OpenAPI document (needs redis-server).
	COMMAND_UNDER_TEST=$(BIN)/featurestore $(OPENAPI)/bin/python -m pytest -c tests/openapi/pytest.ini tests/openapi

$(OPENAPI)/.installed: tests/openapi/requirements.txt
	$(PYTHON) -m venv $(OPENAPI)
	$(OPENAPI)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

node-package: install  ## Pack the Node port, lua/ports/node (needs node and npm).
	cd lua/ports/node && npm install --no-audit --no-fund --silent && FEATURESTORE=$(abspath $(BIN)/featurestore) npm pack --silent

test-node: $(VENV)/.test  ## Pack, install and test the Node port (needs node and npm).
	$(BIN)/python -m pytest -rs tests/ports/test_node.py

lint: $(VENV)/.test $(VENV)/.lint  ## Run the linters (luacheck is the Debian package lua-check).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy featurestore ingest
	$(BIN)/mypy tests perf
	$(BIN)/mypy docs/site
	$(BIN)/mypy release
	$(BIN)/python tests/lint_lua.py
	$(BIN)/python tests/generate_twins.py --check
	$(BIN)/python tests/generate_pages.py --check

twins: $(VENV)/.test $(VENV)/.lint  ## Make the asyncio store and client from their blocking twins.
	$(BIN)/python tests/generate_twins.py

pages: $(VENV)/.test  ## Fill what is made of the pages: settings, commands, decisions, figures that are stored.
	$(BIN)/python tests/generate_pages.py

# The variable silences what the theme says about releases of MkDocs that setup.cfg keeps away.
docs: $(VENV)/.docs  ## Make the site of docs/ in build/site; a link or an anchor that leads nowhere fails.
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "the site is build/site/index.html"

docs-serve: $(VENV)/.docs  ## Show the site on 127.0.0.1:8080 while its pages are written (DOCS_BIND).
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr $(or $(DOCS_BIND),127.0.0.1:8080)

perf: $(VENV)/.test $(VENV)/.perf  ## Measure everything of docs/performance.md, in half an hour (CONTRIBUTING.md has what it needs).
	$(BIN)/python perf/compare.py
	$(BIN)/python perf/shapes.py --out docs/performance
	$(BIN)/python perf/overload.py --out docs/performance
	$(BIN)/python perf/far.py --out docs/performance
	$(BIN)/python perf/vectors.py --out docs/performance
	$(BIN)/python perf/matrices.py --out docs/performance
	$(BIN)/python perf/call_costs.py --out docs/performance
	$(BIN)/python perf/load.py --out docs/performance
	$(BIN)/python perf/beside_load.py --out docs/performance
	$(BIN)/python perf/cluster.py --out docs/performance
	$(BIN)/python perf/redis_time.py --out docs/performance
	$(BIN)/python perf/script_time.py
	$(BIN)/python perf/ingest.py --out docs/performance
	$(BIN)/python perf/ingest_floor.py --out docs/performance
	$(BIN)/python perf/consume.py
	$(BIN)/python perf/soak.py
	$(BIN)/python perf/faults.py --out docs

release: $(VENV)/.release  ## Make and check dist/: source, wheels of package and HTTP clients, scripts, chart, SBOM, digests.
	$(BIN)/python release/make_release.py

lock: $(VENV)/.release  ## Pin what the image installs, at the newest versions that setup.cfg permits.
	$(LOCK) setup.cfg --output-file deploy/image.txt
	$(LOCK) deploy/image-build.in --output-file deploy/image-build.txt

clean:  ## Remove what the other targets made.
	rm -rf $(VENV) $(FEAST) $(OPENAPI) .servers build dist perf/tools/build *.egg-info featurestore/native/*.so .coverage .coverage.*
	cd lua/ports/node && rm -rf node_modules dist src/scripts.json LICENSE *.tgz
