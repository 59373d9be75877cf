# make train   trains the DMD example on the recordings that ship with the project
# make test    runs every test
# make lint | docs | clean
# make wheel         builds wheel and sdist into dist/
# make test-wheel    tries them on every Python that is found, outside the repository
# make test-lowest   runs the library's tests with the lowest versions that pyproject.toml allows
# make lock    writes constraints.txt anew
# Each makes .venv and installs what it needs the first time, and again only when pyproject.toml or constraints.txt
# changes. Choose the interpreter with PYTHON=..., pass options on with ARGS="...".
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
REQUIREMENTS := pyproject.toml constraints.txt

.PHONY: train test lint docs lock wheel test-wheel test-lowest clean

train: .venv/.installed
	$(BIN)/python examples/dmd/train.py --config examples/dmd/configs/smartwatch.yaml $(ARGS)

# One thread for each worker: two workers on two cores are faster than two threads in one process.
test: .venv/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 $(ARGS)

lint: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python

docs: .venv/.installed-docs
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

lock: .venv/.installed
	$(BIN)/python .ci/lock.py $(ARGS)

# The date of the last commit makes the archives the same wherever they are built from it.
wheel: .venv/.installed-dev
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 1580601600) $(BIN)/python -m build --outdir dist

test-wheel: wheel
	$(BIN)/python .ci/test_wheel.py $(ARGS)

test-lowest: wheel
	$(BIN)/python .ci/test_wheel.py --python $(BIN)/python --constraints constraints.txt .ci/lowest.txt \
		--extras plot --tests tests $(ARGS)

clean:
	rm -rf .venv build dist docs/_build .pytest_cache .ruff_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@test -n "$(PYTHON)" || { echo "gdkit needs Python 3.11 or newer; name one with make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.installed: $(REQUIREMENTS) | .venv/bin/python
	$(BIN)/pip install -c constraints.txt -e '.[train,plot,test]'
	touch $@

.venv/.installed-%: $(REQUIREMENTS) | .venv/.installed
	$(BIN)/pip install -c constraints.txt -e '.[$*]'
	touch $@
