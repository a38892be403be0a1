# make train   creates .venv, installs, trains a small map and leaves a learning curve
# make test    runs the tests in the same environment
# make figures redraws the experiments' pictures and tables from stored results
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/3m/seca/make-train
BIN := $(VENV)/bin
SETTINGS ?= map=3m seeds=2 total_steps=1_000_000 eval.interval=100_000

.PHONY: install train test figures lint

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; try: make PYTHON=python3.12' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# A second make train continues or confirms the first instead of complaining about its directory
train: install
	if [ -e $(RUN)/config.yaml ]; then $(BIN)/python -m seca_jax.train resume=$(RUN); \
	else $(BIN)/python -m seca_jax.train $(SETTINGS) out=$(RUN); fi
	@echo "learning curve: $(RUN)/curves.png"

test: install
	$(BIN)/python -m pytest

figures: install
	$(BIN)/python experiments/draw.py

lint: install
	$(BIN)/python -m ruff check seca_jax tests experiments
	$(BIN)/python -m ruff format --check seca_jax tests experiments
