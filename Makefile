# `make demo` and `make test` are all the set-up there is: each makes the virtual environment it needs.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint style docs lock bench accuracy clean

demo: $(STAMP)
	$(BIN)/python -m testkit.demo outputs/demo.mp4
	$(BIN)/python cli.py analyze outputs/demo.mp4
	$(BIN)/python cli.py report --format html

# Types are checked beside the tests, which often wait; what was found is shown after them. Both must pass.
test: $(STAMP) style
	@types=$$(mktemp); $(BIN)/mypy > "$$types" 2>&1 & checking=$$!; failed=0; \
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder || failed=1; \
	wait $$checking || failed=1; echo "mypy:"; cat "$$types"; rm -f "$$types"; exit $$failed

lint: style
	$(BIN)/mypy

style: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# Pages that are generated from the code.
docs: $(STAMP)
	$(BIN)/python -c "from analyzer.records import documentation; print(documentation(), end='')" > docs/records.md
	$(BIN)/python -c "from analyzer.report.documentation import documentation; print(documentation(), end='')" > docs/report.md

# Measurements; they write docs/performance.md, docs/accuracy.md, docs/presets.md and docs/models.md.
bench: $(STAMP)
	$(BIN)/python -m benchmarks.performance
	$(BIN)/python -m benchmarks.reports

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

# Python compiles what is imported; to compile all that is installed would take as long as to install it.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable ".[dev]"
	touch $(STAMP)

clean:
	rm -rf .venv .venv-lock .mypy_cache .ruff_cache .pytest_cache
