# `make demo` and `make test` need nothing but python3: each makes its own environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Before an environment is made: a Python that will not do is told, a broken environment removed.
WRONG := $(shell { $(PYTHON) .ci/python.py $(VENV); } 2>&1)
ifneq ($(WRONG),)
$(error $(WRONG))
endif

.PHONY: demo test test-all test-app test-oldest test-oldest-hf lint docs bench wheel clean

demo: $(VENV)/.demo
	$(BIN)/fer-zoo predict examples/faces

# One thread in each of a few processes: the networks of the tests are too small for more.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4

# A few minutes on two cores, without the tests that are marked slow.
test: $(VENV)/.dev
	$(PYTEST) -m "not slow and not weekly"

# Each of the fuzzers for half a minute; for an hour: make test-all FER_ZOO_FUZZ_SECONDS=3600
test-all: export FER_ZOO_FUZZ_SECONDS ?= 30
test-all: $(VENV)/.dev
	$(PYTEST) -m "not weekly"

# With every package as old as it is admitted; what others deprecated since is no error.
test-oldest: $(VENV)/oldest/.dev
	OMP_NUM_THREADS=1 $(VENV)/oldest/bin/python -m pytest -n auto --maxprocesses 4 \
	  -m "not slow and not weekly" -o filterwarnings=default --ignore fer_zoo/hf.py \
	  --ignore fer_zoo/models/transformers_member.py

# The tests of what transformers reads, with the oldest that is admitted, beside all else as it is.
test-oldest-hf: $(VENV)/oldest-hf/.dev
	OMP_NUM_THREADS=1 $(VENV)/oldest-hf/bin/python -m pytest -q -m "not slow" tests/test_hf.py \
	  tests/test_transformers_member.py tests/test_mixed_ensembles.py -o filterwarnings=default

# The page in a browser, where there is one (Debian's `chromium`): beside all else, as Gradio wants
# an older Pillow.
test-app: $(VENV)/app/.dev
	OMP_NUM_THREADS=1 $(VENV)/app/bin/python -m pytest -q tests/test_app.py

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.dev
	$(BIN)/python -m sphinx -n -W -q -b html docs docs/_build/html
	$(BIN)/python -m sphinx -n -W -q -b doctest docs docs/_build/doctest

# A few minutes; benchmarks/inference.py without arguments measures everything.
bench: $(VENV)/.dev
	$(BIN)/python benchmarks/inference.py --models resnet18_025 --repeats 10 --budget 2 \
	  --output build/bench.jsonl $(BENCH)

# A wheel and an sdist in dist/, checked, and the wheel tried in an empty environment.
wheel: $(VENV)/.dev
	rm -rf dist build/empty
	$(BIN)/python -m build -q
	$(BIN)/python -m twine check --strict dist/*
	$(BIN)/check-wheel-contents dist/*.whl
	$(PYTHON) -m venv build/empty
	build/empty/bin/python -m pip install --disable-pip-version-check -q dist/*.whl
	cd build/empty && bin/python -I ../../.ci/smoke.py

clean:
	rm -rf $(VENV) docs/_build docs/gallery build dist

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e .
	touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --disable-pip-version-check -q -e '.[dev,hf]'
	touch $@ $(VENV)/.demo

$(VENV)/oldest/.dev: pyproject.toml
	rm -rf $(VENV)/oldest
	$(PYTHON) -m venv $(VENV)/oldest
	$(PYTHON) .ci/minimums.py > $(VENV)/oldest/minimums.txt
	$(VENV)/oldest/bin/python -m pip install --disable-pip-version-check -q \
	  -c $(VENV)/oldest/minimums.txt -e '.[dev]'
	touch $@

$(VENV)/app/.dev: pyproject.toml | $(VENV)/.dev
	rm -rf $(VENV)/app
	$(PYTHON) -m venv $(VENV)/app
	$(BIN)/python -c "import site; print(*site.getsitepackages(), sep='\n')" \
	  > $$(echo $(VENV)/app/lib/python*/site-packages)/beside.pth
	$(VENV)/app/bin/python -m pip install --disable-pip-version-check -q -e '.[app]' playwright
	touch $@

$(VENV)/oldest-hf/.dev: pyproject.toml | $(VENV)/.dev
	rm -rf $(VENV)/oldest-hf
	$(PYTHON) -m venv $(VENV)/oldest-hf
	$(BIN)/python -c "import site; print(*site.getsitepackages(), sep='\n')" \
	  > $$(echo $(VENV)/oldest-hf/lib/python*/site-packages)/beside.pth
	$(PYTHON) .ci/minimums.py | grep '^transformers' > $(VENV)/oldest-hf/minimums.txt
	$(VENV)/oldest-hf/bin/python -m pip install --disable-pip-version-check -q \
	  -r $(VENV)/oldest-hf/minimums.txt
	touch $@
