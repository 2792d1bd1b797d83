# The front door: `make run` starts everything, `make test` checks everything.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test fuzz lint protos clean

run: $(VENV)/.installed
	$(BIN)/aion up $(ARGS)

test: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

# New examples for the property tests, ROUNDS times over; what is found belongs into a test of its own.
ROUNDS ?= 5
fuzz: $(VENV)/.installed-test
	for _ in $$(seq $(ROUNDS)); do $(BIN)/pytest -m hypothesis --hypothesis-seed=random || exit 1; done

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/mypy

protos: $(VENV)/.installed-test
	$(BIN)/python protos/generate.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[envoy]'
	touch $@

$(VENV)/.installed-test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[test]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
