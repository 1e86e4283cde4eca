# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE := prospect_lib/sandbox/website
TRACKER := $(SITE)/node_modules/.package-lock.json
PIP := pip install -q --disable-pip-version-check

.PHONY: demo once test parity fuzz lab notebooks bundle colab bench retrain programs clean

demo: $(VENV)/installed $(TRACKER)
	@$(BIN)/python -m prospect_lib demo

once: $(VENV)/installed
	@$(BIN)/python -m prospect_lib demo --once

# Tests run in two processes, whole files in each, in the order of tests/conftest.py.
WORKERS ?= 2
test: programs $(VENV)/installed-test $(TRACKER) .venv-colab/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The SQL against the fold on PARITY random worlds per dialect: over 100,000 cases in some minutes.
PARITY ?= 650
parity: $(VENV)/installed-test
	PROSPECT_PARITY=$(PARITY) $(BIN)/pytest -q tests/training_set tests/warehouse -k random_worlds

# The random tests of the prediction server and the sandbox with FUZZ examples each.
FUZZ ?= 10000
fuzz: $(VENV)/installed-test
	PROSPECT_FUZZ=$(FUZZ) $(BIN)/pytest tests/server tests/sandbox tests/notebooks tests/monitoring/test_causes.py \
	  -k "documented or any_ or parameters or ten_clean_days"

lab: $(VENV)/installed $(TRACKER)
	$(BIN)/jupyter lab notebooks

# The weekly job: make retrain SINCE=2026-01-01 UNTIL=2026-03-01 BACKEND=snowflake OUT=models
# make turns every exit code but 0 into 2, so a scheduler that needs the code runs the command itself.
retrain: $(VENV)/installed
	@$(BIN)/python -m prospect_lib train $(if $(SINCE),--since $(SINCE)) $(if $(UNTIL),--until $(UNTIL)) \
	  $(if $(BACKEND),--backend $(BACKEND)) $(if $(OUT),--out $(OUT))

# Run every notebook and solution and write the outputs; `make notebooks CHECK=--check` only compares.
notebooks: $(VENV)/installed
	@$(BIN)/python -m tools.stamp_notebooks $(CHECK)
	@$(BIN)/python -m tools.run_notebooks $(CHECK)

# The files that git tracks, as they are now: what the first cell of a notebook installs in Colab
# after an upload.
BUNDLE ?= prospect-scoring.zip
bundle:
	@git archive --format=zip --prefix=prospect-scoring/ -o $(BUNDLE) \
	  $$(git stash create | grep . || echo HEAD)
	@echo "$(BUNDLE): upload it in Colab with the folder symbol at the left."

# The whole series on Colab's Python and package versions, with a stand-in for google.colab.
# `make test` runs a part of it on this machine's Python.
COLAB_PYTHON ?= python3.13
colab: $(VENV)/installed .venv-colab-series/installed
	$(BIN)/python -m tests.colab.run .venv-colab-series/bin/python

.venv-colab/installed: COLAB_PYTHON = $(PYTHON)
.venv-colab/installed .venv-colab-series/installed: tests/colab/versions.txt prospect_lib/colab.py prospect_lib/requirements.txt
	$(COLAB_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/$(PIP) -r tests/colab/versions.txt
	$(@D)/bin/python -c "from prospect_lib import colab; colab.prepare(snowflake=False)"
	touch $@

# Measures what changed since its last result; `make bench ONLY="features scale"` these.
bench: $(VENV)/installed-test
	$(BIN)/$(PIP) -e ".[bench]"
	$(BIN)/python benchmarks $(ONLY)

$(VENV)/installed: prospect_lib/requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/$(PIP) -r requirements.txt
	$(BIN)/$(PIP) --no-deps -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/$(PIP) -r requirements.txt -e ".[test]"
	touch $@

# Without npm the pages of the demo website load the same pinned tracker from a public CDN.
$(TRACKER): $(SITE)/package-lock.json
	@if command -v npm >/dev/null; then \
	  cd $(SITE) && npm ci --legacy-peer-deps --no-audit --no-fund --silent && touch node_modules/.package-lock.json; \
	else echo "npm is not installed: the demo website will load Snowplow's tracker from a CDN."; fi

# The Debian packages that the tests need; if run as root, this installs those that are missing.
# In runlevel 1 Debian starts no service: nginx is only for the tests.
programs:
	@missing=""; \
	for name in chromium npm; do command -v $$name >/dev/null || missing="$$missing $$name"; done; \
	command -v java >/dev/null || missing="$$missing default-jre-headless"; \
	PATH="$$PATH:/usr/sbin" command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	$(PYTHON) -c "import ensurepip" 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && RUNLEVEL=1 apt-get install -y -qq $$missing >/dev/null; \
	else echo "Not installed:$$missing. Tests that need them are skipped: apt-get install$$missing"; fi

clean:
	rm -rf $(VENV) .venv-colab* $(SITE)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
