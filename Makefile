# `make quickstart`: simulate data, train, predict and evaluate. `make test`: all checks.
PYTHON ?= python3.11
BIN := .venv/bin
DIR := quickstart
# Parallel test processes; compiling a network keeps one core busy.
JOBS ?= 2

.PHONY: quickstart test lint clean

quickstart: .venv/installed
	$(BIN)/flairhub simulate --out $(DIR)/raw --patches 250 --pixels 128
	$(BIN)/flairhub convert --out $(DIR)/records \
	  --train $(DIR)/raw/csv/FLAIR-HUB_SIMULATED_TRAIN.csv \
	  --valid $(DIR)/raw/csv/FLAIR-HUB_SIMULATED_VALID.csv \
	  --test $(DIR)/raw/csv/FLAIR-HUB_SIMULATED_TEST.csv
	$(BIN)/flairhub train --config=configs/quickstart.py --workdir=$(DIR)/run
	$(BIN)/flairhub predict --run $(DIR)/run --out $(DIR)/maps
	$(BIN)/flairhub evaluate --run $(DIR)/run

test: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --progress-bar on -r requirements.txt -e .
	touch $@

clean:
	rm -rf $(DIR) .venv .cache
