# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SITE := prospect_lib/sandbox/website

.PHONY: demo once test parity fuzz lab notebooks colab bench retrain clean

demo: $(VENV)/installed $(SITE)/node_modules/.package-lock.json
	@$(BIN)/python -m prospect_lib demo

once: $(VENV)/installed
	@$(BIN)/python -m prospect_lib demo --once

test: $(VENV)/installed-test $(SITE)/node_modules/.package-lock.json chromium
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# SQL against the fold on so many random worlds a dialect: over 100,000 cases in some minutes.
PARITY ?= 2500
parity: $(VENV)/installed-test
	PROSPECT_PARITY=$(PARITY) $(BIN)/pytest -q tests/training_set tests/warehouse/test_snowflake.py -k random_worlds

# The random tests of the prediction server with 10,000 examples each: about five minutes.
FUZZ ?= 10000
fuzz: $(VENV)/installed-test
	PROSPECT_FUZZ=$(FUZZ) $(BIN)/pytest tests/server -k "documented or any_"

lab: $(VENV)/installed $(SITE)/node_modules/.package-lock.json
	$(BIN)/jupyter lab notebooks

# The weekly job: make retrain SINCE=2026-01-01 UNTIL=2026-03-01 BACKEND=snowflake OUT=models
# make turns every exit code but 0 into 2: a scheduler that reads the codes runs the command itself.
retrain: $(VENV)/installed
	@$(BIN)/python -m prospect_lib train $(if $(SINCE),--since $(SINCE)) $(if $(UNTIL),--until $(UNTIL)) \
	  $(if $(BACKEND),--backend $(BACKEND)) $(if $(OUT),--out $(OUT))

# Every notebook and solution again, outputs written; make notebooks CHECK=--check writes nothing.
notebooks: $(VENV)/installed
	@$(BIN)/python -m tools.stamp_notebooks
	@$(BIN)/python -m tools.run_notebooks $(CHECK)

# The notebooks on Colab's Python and package versions, beside a stand-in for google.colab.
COLAB_PYTHON ?= python3.13
colab: $(VENV)/installed
	test -x .venv-colab/bin/python || $(COLAB_PYTHON) -m venv .venv-colab
	.venv-colab/bin/pip install -q --disable-pip-version-check -r tests/colab/versions.txt
	$(BIN)/python tests/colab/run.py .venv-colab/bin/python

bench: $(VENV)/installed-test
	$(BIN)/pip install -q -e ".[bench]"
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

$(VENV)/installed: prospect_lib/requirements.txt pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install -q --disable-pip-version-check --no-deps -e .
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(BIN)/pip install -q --disable-pip-version-check -r requirements.txt -e ".[test]"
	touch $@

# Without npm the pages of the demo website load the same pinned tracker from a public CDN.
$(SITE)/node_modules/.package-lock.json: $(SITE)/package-lock.json
	@if command -v npm >/dev/null; then \
	  cd $(SITE) && npm ci --legacy-peer-deps --no-audit --no-fund --silent && touch node_modules/.package-lock.json; \
	else echo "npm is not installed: the demo website will load Snowplow's tracker from a CDN."; fi

.PHONY: chromium
chromium:
	@if ! command -v chromium >/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && apt-get install -y -qq chromium >/dev/null; \
	  else echo "Chromium is not installed: the browser tests will be skipped (apt-get install chromium)."; fi; fi

clean:
	rm -rf $(VENV) $(SITE)/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
