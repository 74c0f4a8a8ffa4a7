# Everything here needs Python 3.11, make and the package registries, nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup demo test lint format bench lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

demo: setup  ## Align a simulated bench on the wire, hold it, break it, recover; writes demo.png
	$(BIN)/qkdctl demo

test: setup
	$(BIN)/python -m pytest -n $(or $(WORKERS),4)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup  ## TASK=alignment SEEDS=0:20
	$(BIN)/qkdctl bench $(or $(TASK),alignment) --seeds $(or $(SEEDS),0:10)

lock:  ## Renew requirements.lock (needs uv); holds hashes, no addresses
	uv lock --quiet
	uv export --quiet --frozen --no-emit-project --all-extras --no-extra swabian --no-extra peers --no-header --no-annotate -o requirements.lock

clean:
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
