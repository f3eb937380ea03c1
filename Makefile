# All that is needed beforehand: Python 3.11 or later (PYTHON=python3.12 names another one) and make.
# Windows: see the README for the same commands without make.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install -qq --disable-pip-version-check
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PAGES := $(addprefix notebooks/,01_data_preparation.ipynb 02_subpixel_cnn.ipynb 03_channel_experiments.ipynb \
	04_checkerboard_artifacts.ipynb 05_psnr_limits.ipynb)
LINTED := srlib tests benchmarks notebooks

.PHONY: course test unit nbval lab notebooks lint weights lock clean
.DEFAULT_GOAL := course

course: $(READY)  ## the whole series on the bundled photos, then the report
	@$(PY) -m srlib run

test: lint unit nbval  ## everything that CI checks

unit: $(READY)
	@$(PY) -m pytest

# The pages alone, in seconds each; --nbval-lax compares the outputs that are marked, and no others.
nbval: $(READY)
	@SRLIB_BUDGET=smoke $(PY) -m pytest --nbval-lax --nbval-current-env $(PAGES)

lint: $(READY)
	@$(PY) -m ruff check --quiet $(LINTED)
	@$(PY) -m ruff format --check --quiet $(LINTED) || { echo "ruff format $(LINTED) would change files"; exit 1; }

lab: $(READY)  ## JupyterLab on the notebooks
	@$(PY) -m jupyter lab notebooks

notebooks: $(READY)  ## execute the committed pages again, at the budget that stands in them
	@$(PY) -m srlib.series --fresh

weights: $(READY)  ## train the networks that `upscale` comes with, on the bundled photos
	@$(PY) -m srlib.weights

lock:  ## after a change in pyproject.toml; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --extra course --extra test pyproject.toml \
		-o requirements.lock --no-header

clean:  ## what tools leave behind; the environment and runs/ stay
	@rm -rf .pytest_cache .ruff_cache .hypothesis build *.egg-info
	@find srlib tests benchmarks notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one by PYTHON=..." \
		if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) from requirements.lock (some minutes, about 6 GB on Linux) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) --requirement requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
