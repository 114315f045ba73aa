# make demo [TRANSPORT=kafka]: the main job in half a minute.  make test: everything, with real servers.  make soak: the large numbers.
# make demo FLOW=cutover: reads and writes move to PostgreSQL, come back, and move for good, in a minute.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
# "local": the stream is one file. "kafka": a broker that the demo starts itself (Java; as root on Debian apt gets it).
TRANSPORT ?= local
FLOW ?= follow
SCALE ?= 1
# setuptools warns of folders beside an editable installation, at length; nothing else is silenced.
QUIET_PIP := PYTHONWARNINGS="ignore:Editable installation" $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Tests start hundreds of processes; where images forbid byte code each of them would compile everything anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install demo test soak lint bench clean

install: $(STAMP)

$(STAMP): pyproject.toml router/pyproject.toml
	@echo "--- installing into $(VENV) (once, a minute or two) ---"
	@$(PYTHON) -m venv $(VENV)
	@$(QUIET_PIP) --upgrade pip
	@$(QUIET_PIP) -e ".[test,lint]" -e ./router "tox>=4.20"
	@touch $(STAMP)
	@echo "--- installed ---"

demo: install
	@if [ "$(TRANSPORT)" = kafka ]; then bash tests/tools/services.sh kafka; fi
	$(BIN)/tailrace demo --flow $(FLOW) --transport $(TRANSPORT)

test: install
	bash tests/tools/services.sh
	bash tests/tools/run_tests.sh $(BIN)

soak: install
	bash tests/tools/services.sh
	$(BIN)/python -m tests.soak --runs 5000
	TAILRACE_FAULT_ROUNDS=10 TAILRACE_STOPPED_S=30 $(BIN)/python -m pytest -q -n 2 tests/faults --timeout 7200
	TAILRACE_KAFKA_MODEL_RUNS=50 $(BIN)/python -m pytest -q -n 2 tests/model/test_kafka_pipeline.py --timeout 7200
	$(BIN)/python -m pytest -q tests --ignore tests/faults -m soak --timeout 7200

lint: install
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

# SCALE=10: ten times the rows. The whole of it takes a few minutes.
bench: install
	bash tests/tools/services.sh kafka
	@export SCALE=$(SCALE); for file in bench/[a-z]*.py; do echo "--- $$file"; $(BIN)/python -m "$$(echo $${file%.py} | tr / .)" || exit 1; done

clean:
	rm -rf $(VENV) .tox .cache demo-run
