# make demo: the story on an embedded part.  make test: the tests.  Both install what they need from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
THREADS ?= 2

.PHONY: install demo test quick lint format types lock clean bench-anomalib bench-drift

install: $(READY)

# The lock file is complete and hashed, so pip resolves nothing: --no-deps.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info[:2] == (3, 11), "Python 3.11 is needed, found %s: make PYTHON=python3.11 …" % sys.version.split()[0]'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(READY)

demo: $(READY)
	OMP_NUM_THREADS=$(THREADS) HALFSIGMA_HOME=demo-out/home $(BIN)/halfsigma demo $(if $(IMAGES),--images "$(IMAGES)")

test: $(READY)
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest

quick: $(READY)
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -m 'not acceptance'

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(READY)
	$(BIN)/mypy halfsigma.py detectors drift registry flows migrations

bench-anomalib: $(READY)
	$(BIN)/python -m benchmarks.against_anomalib

bench-drift: $(READY)
	$(BIN)/python -m benchmarks.drift_operating_characteristic

# Needs uv (pip install uv). Everything, for Linux, macOS and Windows alike, with hashes and without addresses.
lock:
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-annotate --no-header \
		--no-emit-index-url -o requirements.lock

clean:
	rm -rf $(VENV) .bench-venv .bench-venvs build dist demo-out .mypy_cache .ruff_cache .pytest_cache .hypothesis
