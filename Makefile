# `make demo` and `make test` are all the set-up there is: each makes the virtual environment it needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
INSTALL := pip install --quiet --constraint constraints.txt --editable ".[dev]"
INSTALL_UV := $(BIN)/pip install --quiet --no-compile --constraint constraints.txt uv
LINT := $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

.PHONY: demo serve test test-all lint docs lock bench accuracy clean

demo: $(STAMP)
	$(BIN)/python -m testkit.demo outputs/demo.mp4
	$(BIN)/python cli.py analyze outputs/demo.mp4
	$(BIN)/python cli.py report --format html

# The pages in a browser: open the address that it prints.
serve: $(STAMP)
	$(BIN)/python cli.py serve

# All but the tests marked slow, in three processes: on two cores, the third works while others wait. Style, layers and
# types are checked beside the tests; what the checks found is shown after them. All must pass.
test: SELECTED := -m "not slow"
# Every test: before a release, and after changes to what the slow tests cover.
test-all: SELECTED :=
test test-all: $(STAMP)
	@checks=$$(mktemp); ($(LINT)) > "$$checks" 2>&1 & checking=$$!; failed=0; \
	$(BIN)/python -m pytest -n 3 --dist worksteal $(SELECTED) || failed=1; \
	wait $$checking || failed=1; echo; cat "$$checks"; rm -f "$$checks"; exit $$failed

lint: $(STAMP)
	$(LINT)

# Pages that are generated from the code.
docs: $(STAMP)
	$(BIN)/python -c "from analyzer.runs.documentation import documentation; print(documentation(), end='')" > docs/records.md
	$(BIN)/python -c "from analyzer.report.documentation import documentation; print(documentation(), end='')" > docs/report.md

# Measurements; they write docs/performance.md, docs/accuracy.md, docs/presets.md and docs/models.md.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.performance
	$(BIN)/python -m benchmarks.reports
	$(BIN)/python -m benchmarks.web

accuracy: $(STAMP)
	$(BIN)/python -m benchmarks.accuracy
	$(BIN)/python -m benchmarks.presets
	$(BIN)/python -m benchmarks.models

# New versions of everything, within the bounds of pyproject.toml.
lock:
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet --editable ".[dev]"
	.venv-lock/bin/pip freeze --exclude-editable > constraints.txt
	rm -rf .venv-lock

# uv installs in half of pip's time; where it cannot be had, pip installs. Neither compiles: Python compiles what is
# imported, and to compile everything would take as long as to install it.
$(STAMP): pyproject.toml constraints.txt
	@echo "Installing into .venv, which takes some minutes."
	$(PYTHON) -m venv .venv
	$(INSTALL_UV) && VIRTUAL_ENV=.venv $(BIN)/uv $(INSTALL) || $(BIN)/$(INSTALL) --no-compile
	touch $(STAMP)

clean:
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache
