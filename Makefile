# make train   creates .venv, installs, trains a small map and leaves a learning curve
# make test    runs the tests in the same environment, WORKERS=2 processes side by side (3.2 GiB of memory in all)
# make check   formatting, lint, types, then the tests: what continuous integration runs
# make format  writes what check would ask for, as far as a tool can
# make docs    builds the documents as a site into site/, where a broken link is an error
# make figures redraws the experiments' pictures and tables from stored results
PYTHON ?= python3
VENV ?= .venv
RUN ?= runs/3m/seca/make-train
BIN := $(VENV)/bin
WORKERS ?= 2
SETTINGS ?= map=3m seeds=2 total_steps=1_000_000 eval.interval=100_000
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
RUFF := $(BIN)/python -m ruff

.PHONY: install train test check format lint types docs figures

install: $(VENV)/.installed

$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; try: make PYTHON=python3.12' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	$(PIP) --requirement requirements.lock
	$(PIP) --no-deps --editable .
	touch $@

# The type checker brings a JavaScript engine along, which who trains can do without
$(VENV)/.checker: requirements-check.lock $(VENV)/.installed
	$(PIP) --requirement requirements-check.lock
	touch $@

# The site's tools are in the same environment, since they read the package's docstrings
$(VENV)/.documents: requirements-docs.lock $(VENV)/.installed
	$(PIP) --requirement requirements-docs.lock
	touch $@

# A second make train continues or confirms the first instead of complaining about its directory
train: install
	if [ -e $(RUN)/config.yaml ]; then $(BIN)/python -m seca_jax.train resume=$(RUN); \
	else $(BIN)/python -m seca_jax.train $(SETTINGS) out=$(RUN); fi
	@echo "learning curve: $(RUN)/curves.png"

test: install
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

check: lint types test

lint: install
	$(RUFF) format --check .
	$(RUFF) check .

types: $(VENV)/.checker
	$(BIN)/pyright --pythonpath $(BIN)/python

format: install
	$(RUFF) check --fix .
	$(RUFF) format .

# The theme's makers announce their next program on every build. --quiet would keep --strict from seeing warnings
docs: $(VENV)/.documents
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

figures: install
	$(BIN)/python experiments/draw.py
