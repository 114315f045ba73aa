# make demo: the main job in half a minute.  make test: everything, with real servers.  make soak: the large numbers.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: install demo test soak lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml
	@echo "--- installing (once) ---"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[test,lint]" "tox>=4.20"
	@touch $(STAMP)
	@echo "--- installed ---"

demo: install
	$(BIN)/tailrace demo

test: install
	bash tests/tools/services.sh
	bash tests/tools/run_tests.sh $(BIN)

soak: install
	bash tests/tools/services.sh
	$(BIN)/python -m tests.soak --runs 5000
	TAILRACE_FAULT_ROUNDS=10 $(BIN)/python -m pytest -q -n 2 tests/faults --timeout 7200

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

bench: install
	for file in bench/[a-z]*.py; do echo "--- $$file"; $(BIN)/python -m "$$(echo $${file%.py} | tr / .)" || exit 1; done

clean:
	rm -rf $(VENV) .tox .cache demo-run
