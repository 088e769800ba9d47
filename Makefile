# make demo: install, train one network on synthesised data, show its table. make test: the tests.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
BIN := $(VENV)/bin

.PHONY: demo test clean

demo: $(STAMP)
	$(BIN)/python launch.py --config=configs/rit_nsynth.py:optimised --config.data.variant=stand_in \
	  --data_dir=runs/data --workdir=runs/demo --config.steps=160 --config.eval_every=40

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
