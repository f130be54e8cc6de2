# All development commands. Needs Python 3.11 or newer and access to a package registry; nothing else is downloaded.
PYTHON ?= python3
BIN := .venv/bin

export NO_ALBUMENTATIONS_UPDATE := 1
export DVC_NO_ANALYTICS := true
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test slow all-tests check fix coverage wheel bench lock clean install

demo: install  ## from synthetic garments to five trained, evaluated models, through DVC
	@echo "==> dvc repro: sample -> convert -> shard -> train -> evaluate -> index"
	@$(BIN)/dvc repro
	@echo "==> metrics of splits that the models never saw (all of them: dvc metrics show)"
	@for summary in reports/*/summary.txt; do cat $$summary; echo; done
	@echo "==> images with predictions: $(CURDIR)/reports/keypoints/predictions.png; those of the other models are in the folders next to it"
	@echo "==> pages of the data sets: $(CURDIR)/reports/datasets"

test: install  ## all tests except the slow ones; a third process runs while other tests wait
	@echo "==> pytest"
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal

slow: install  ## the slow tests: fault-injection campaigns, training to a target accuracy, compilers
	@echo "==> pytest -m slow"
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

all-tests: install  ## fast and slow tests in one run; a third process runs while other tests wait
	@echo "==> pytest, fast and slow"
	@$(BIN)/python -m pytest -q -n 3 --dist worksteal -m "slow or not slow"

check: install  ## style, types, layering
	@echo "==> ruff"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@echo "==> pyright"
	@$(BIN)/pyright
	@echo "==> layers"
	@$(BIN)/lint-imports --no-cache --no-logo

fix: install  ## apply automatic fixes and formatting of ruff
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

coverage: install  ## lines and branches that the tests run, worker processes and commands included
	@rm -rf .coverage .coverage.*
	@$(BIN)/coverage run --branch -m pytest -q -n 0 $(TESTS)
	@$(BIN)/coverage combine -q
	@$(BIN)/coverage report --skip-covered --sort=miss

wheel: install  ## the wheel in an empty environment and an empty folder, from raw files to predictions
	@.ci/wheel

bench: install .bench/installed  ## compare with other libraries; prints ratios
	@missed=""; for benchmark in benchmarks/*.py; do \
		echo "==> $$benchmark"; $(BIN)/python $$benchmark || missed="$$missed $$benchmark"; \
	done; test -z "$$missed" || { echo "==> missed a target or failed:$$missed"; exit 1; }

.bench/installed: benchmarks/peers-requirements.txt .venv/installed
	@echo "==> installing the libraries to compare with into .bench (2 GB)"
	@$(BIN)/uv venv -q --clear --python $(BIN)/python .bench/peers
	@$(BIN)/uv pip install -q --python .bench/peers/bin/python --no-deps -r benchmarks/peers-requirements.txt
	@$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > $$(.bench/peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/torch_of_the_project.pth
	@touch $@

install: .venv/installed  ## the pinned packages and the two commands, into .venv

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; choose one with: make PYTHON=python3.12")'
	@echo "==> creating .venv (about 7 GB: torch brings its GPU libraries)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check uv
	@echo "==> installing the packages of requirements.lock"
	@$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -r requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --compile-bytecode -e .
	@$(BIN)/python -m compileall -q schemas pipeline training  # an editable install does not compile the packages of a checkout
	@touch $@

lock:  ## pin the newest packages that fit, without registry addresses
	@$(BIN)/uv pip compile -q --python-version 3.11 --universal --no-emit-index-url --all-extras --upgrade pyproject.toml -o requirements.lock

clean:  ## remove what the demo created; keep the installed packages
	rm -rf data runs reports
