# nearkin: `make demo` does the main job, `make test` runs the tests. Each installs what it needs first, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export HF_HUB_OFFLINE := 1
# On a busy machine threads that spin while they wait cost more than they save.
export OMP_WAIT_POLICY := PASSIVE

# Tests run side by side, a file at a time in each of so many processes; each computes with one thread.
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); echo $$(( n < 4 ? n : 4 )))

.PHONY: demo test lint format bench crash quality clean

demo: $(READY)
	$(BIN)/nearkin demo

test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not crash and not quality" -n $(JOBS) --dist loadfile

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	$(BIN)/python -m benchmarks.store
	$(BIN)/python -m benchmarks.text
	$(BIN)/python -m benchmarks.graphs
	$(BIN)/python -m benchmarks.serve

crash: $(READY)
	$(BIN)/python -m pytest -m crash

quality: $(READY)
	$(BIN)/python -m pytest -m quality

clean:
	rm -rf $(VENV) nearkin-demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'nearkin needs Python 3.11 or newer; name it with: make PYTHON=python3.11')"
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[offline,test,lint]"
	touch $@
