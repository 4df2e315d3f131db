# The commands of the README and of CI. Everything happens in .venv and build/.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup demo check test bench wheel clean

setup: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet --editable . --group dev
	touch $(READY)

demo: $(READY)
	$(BIN)/python -m benchmarks.demo

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: $(READY)
	$(BIN)/python -m pytest

bench: $(READY)
	$(BIN)/python -m benchmarks.export_cost
	$(BIN)/python -m benchmarks.parity

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .venv *.egg-info
