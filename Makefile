# Two commands on a fresh machine: make demo, make test. PYTHON chooses the interpreter (3.11+).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed is compiled on all cores, without what nothing here imports.
UNUSED := '/(tests|transformers/models|torch/testing/_internal)/'
DISTRIBUTIONS := plugins/onr-ellipsoids plugins/onr-fast-training plugins/onr-pixel-norms

.PHONY: install demo test suite docs fuzz derivatives jax benchmark norms outputs lint clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml $(DISTRIBUTIONS:%=%/pyproject.toml)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[test]' $(DISTRIBUTIONS:%=--editable %)
	-$(BIN)/python -m compileall -qq -j 0 -x $(UNUSED) $(VENV)/lib
	touch $@

demo: install
	$(BIN)/onr demo --out demo

test: install
	$(MAKE) --jobs 2 lint suite

suite: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The site, in docs/_build/html: every warning is an error, and no network is needed after the install.
docs: $(VENV)/docs-installed
	rm -rf docs/_build
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going --jobs 2 docs docs/_build/html

$(VENV)/docs-installed: pyproject.toml
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile --editable '.[docs]'
	-$(BIN)/python -m compileall -qq -j 0 -x $(UNUSED) $(VENV)/lib
	touch $@

# Random modules, inputs and verbs: make fuzz MINUTES=60 SEED=3, or ARGS='--case cnn --verb jvp'.
MINUTES ?= 5
SEED ?= $(shell date +%s)

fuzz: install
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --minutes $(MINUTES) --seed $(SEED) $(ARGS)

# The table of docs/derivatives.md. It needs timm; what is measured is kept in build/.
derivatives: install
	$(BIN)/python -m pip install --quiet timm==1.0.31
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m fuzz.families

# The plugin for JAX, in an environment of its own: its tests, and the contract of a backend.
jax: $(VENV)-jax/installed
	OMP_NUM_THREADS=1 $(VENV)-jax/bin/python -m pytest plugins/onr-jax

$(VENV)-jax/installed: pyproject.toml plugins/onr-jax/pyproject.toml
	$(PYTHON) -m venv $(VENV)-jax
	$(VENV)-jax/bin/python -m pip install --quiet --editable . --editable 'plugins/onr-jax[test]'
	touch $@

benchmark: install
	$(BIN)/python -m pytest --benchmark-only

# Lower bounds of operator norms, held against a global search: minutes to half an hour.
norms: install
	$(BIN)/python tests/jacobians/global_search.py --matrices 2000 --seed 0

# Norms of networks with 1,000 outputs at 224 x 224, with their kind, time and memory: hours.
outputs: install
	$(BIN)/python -m pip install --quiet timm==1.0.31
	$(BIN)/python tests/jacobians/thousand_outputs.py --images 2

clean:
	rm -rf $(VENV) $(VENV)-jax demo
