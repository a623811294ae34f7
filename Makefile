# Two commands on a fresh machine: make demo, make test. PYTHON chooses the interpreter (3.11+).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test benchmark norms lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml plugins/onr-pixel-norms/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]' --editable plugins/onr-pixel-norms
	touch $@

demo: install
	$(BIN)/onr demo --out demo

test: install lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

benchmark: install
	$(BIN)/python -m pytest --benchmark-only

# Lower bounds of operator norms, held against a global search: minutes to half an hour.
norms: install
	$(BIN)/python tests/jacobians/global_search.py --matrices 2000 --seed 0

clean:
	rm -rf $(VENV) demo
