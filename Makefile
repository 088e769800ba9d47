# make demo: trains one network on synthesised data and shows its table.
# make test: the quick tests. make test-all: also the slow ones, with PyTorch.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test test-all clean

demo: $(VENV)/.installed
	$(BIN)/python launch.py --config=configs/rit_nsynth.py:optimised --config.data.variant=stand_in \
	  --data_dir=runs/data --workdir=runs/demo --config.steps=160 --config.eval_every=40

test: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -m "not slow" --durations=25

test-all: test $(VENV)/.peers
	$(BIN)/python -m pytest -m slow --durations=25

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --editable .
	touch $@

$(VENV)/.peers: requirements-peers.lock $(VENV)/.installed
	$(PIP) --requirement requirements-peers.lock
	touch $@

clean:
	rm -rf $(VENV) runs
