# make image   set up everything, then build and accept the CUDA 11.7 image
# make test    set up everything, then run the tests, one real build among them
# make help    the rest

CUDA ?= 11.7
PRESET := cu117-torch2.0.1-py3.10-debian12
# BASE=bootstrap: a base made here from Debian's packages. Without it, that one is used if no registry has the other, and
# `envbuilder build` says so in .env.
ifeq ($(BASE),bootstrap)
override BASE := py3.9-debian11
endif
ifneq ($(BASE),)
export BASE
endif
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help image train test test-all test-in-images test-beside fast coverage lint mutants mutate chaos fuzz presets matrix \
	schema bench bench-speed bench-train bench-scale docs dist gpu-check record-index lock-tools lock-notebook setup engine browser \
	registry clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

image: setup engine ## build and accept the image for CUDA=11.7; BASE=bootstrap: without a registry
	$(BIN)/envbuilder build $(if $(filter-out 11.7,$(CUDA)),--cuda $(CUDA) $(if $(BASE),--base bootstrap))

train: setup engine ## fine-tune BERT by compose.yaml; the results are in runs/
	@docker image inspect "$$(docker compose config --images train | head -n 1)" >/dev/null 2>&1 || $(BIN)/envbuilder build
	@[ -n "$$COMPOSE_FILE" ] || grep -qs '^COMPOSE_FILE=' .env || { found=$$(tools/gpu-access) && export $$found; }; \
		docker compose up --exit-code-from train train

# ENVIRONMENT: an image; or `here`, the torch of GPU_PYTHON on this machine, without a container
GPU_PYTHON ?= python3
gpu-check: setup ## on a machine with an NVIDIA GPU: run what needs one; ENVIRONMENT=IMAGE, or here (without a container)
	@image="$(ENVIRONMENT)"; [ -n "$$image" ] || image=$$(docker compose config --images train | head -n 1); \
		$(BIN)/python tools/gpu_check.py "$$image" "$(GPU_PYTHON)"

# What needs an engine and what needs none run side by side, unless two images in training would not fit into memory.
JOBS ?= $(shell awk '/^MemAvailable/ {print ($$2 > 8000000) ? 2 : 1}' /proc/meminfo 2>/dev/null || echo 1)

test: setup engine browser registry ## the tests; needs an engine and Chromium, or Debian and root to set them up
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@$(MAKE) --no-print-directory --jobs=$(JOBS) test-in-images test-beside WITHOUT="and not exhaustive"

test-all: setup engine browser registry ## these and what seldom changes: long jobs in the image; half an hour
	@$(MAKE) --no-print-directory --jobs=$(JOBS) test-in-images test-beside

test-in-images:
	$(RUN) pytest -m "container $(WITHOUT)"

test-beside:
	@mkdir -p build
	@echo 'tests without an engine: build/test-beside.log'
	@$(RUN) pytest -m "not container $(WITHOUT)" >build/test-beside.log 2>&1; code=$$?; cat build/test-beside.log; exit $$code

# Folders too: what is not collected is not imported.
FAST := -p no:logging -m "not slow and not container and not network and not browser and not mutation and not fuzz" \
	tests/unit tests/cli tests/golden tests/payload tests/fuzz

fast: setup ## the quick tests: no engine, no network, no browser, few processes; half a minute
	@# byte-code is kept: without it a sixth of the time is Python compiling the tests again
	PYTHONDONTWRITEBYTECODE= tools/in-memory $(RUN) pytest -q $(FAST)

coverage: setup ## which branches of envbuilder/ the fast tests and those of the commands run; writes docs/measurements/coverage.md
	@mkdir -p build
	COVERAGE_FILE=build/coverage.data $(RUN) coverage run --branch --source=envbuilder -m pytest -q $(FAST)
	COVERAGE_FILE=build/coverage.data $(RUN) coverage run --append --branch --source=envbuilder -m pytest -q \
		-m "slow and not exhaustive and not container and not network and not mutation" tests/cli
	COVERAGE_FILE=build/coverage.data $(RUN) coverage json -q -o build/coverage.json
	$(BIN)/python tools/coverage_page.py build/coverage.json

lint: setup ## ruff, mypy, whether a rendered file is stale, structure and words of the tree
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/envbuilder render --check
	$(RUN) pytest -q tests/unit/test_house.py tests/unit/test_words.py tests/unit/test_tests.py

mutate: setup ## break envbuilder's own source in many ways; writes docs/measurements/mutation.md; half an hour
	nice $(BIN)/python tools/mutate.py

mutants: setup engine ## break the image in every way we know and see that each is caught
	$(RUN) pytest -v tests/mutants

chaos: setup engine ## kill commands at 200 random instants, break network, disk and engine; needs an image; writes docs/measurements/chaos.md
	$(BIN)/python tools/chaos.py

presets: setup ## write docker/images/ again from its locks
	for lock in docker/images/*/envbuilder.lock; do \
		$(BIN)/envbuilder render --lock $$lock --output docker || exit; done

matrix: setup engine ## build and accept every preset, resumable; writes docs/receipts, docs/reference/matrix.md, README's table
	$(BIN)/python tools/matrix.py

docs: setup .venv/docs-installed ## build the documentation as a site in build/site/; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.venv/docs-installed: tools/docs-requirements.txt | setup
	@echo "installing MkDocs into .venv (20 MB to download)" >&2
	@$(BIN)/uv pip install --no-config --quiet --python $(BIN)/python --require-hashes --requirements $<
	@touch $@

dist: setup ## build the wheel and the sdist into dist/
	rm -rf dist
	$(BIN)/uv build --no-config --quiet --no-build-isolation --python $(BIN)/python --out-dir dist

schema: setup ## write the JSON Schemas in docs/reference/ again from the code
	$(BIN)/python tools/schema.py

bench: setup engine ## measure our build against what people do by hand; writes bench/results.md
	$(BIN)/python bench/run.py

bench-speed: setup ## measure `--help`, one resolve and the whole grid against their limits; on a quiet machine
	$(BIN)/python bench/speed.py

bench-train: setup engine ## measure our training job against the guide's loop; writes bench/train.md
	$(BIN)/python bench/fine_tune.py

bench-scale: setup engine ## measure what several processes bring; writes bench/scale.md and its copy in docs/how-to/
	$(BIN)/python bench/scale.py

record-index: setup ## write tests/recorded_index/ again: the part of the package index that decides the committed locks
	$(BIN)/python tools/record_index.py
	$(RUN) pytest -q tests/unit/test_recorded_index.py tests/cli/test_lock.py

lock-tools: setup ## pin the project's own environment, and that of the documentation, again
	$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --group dev --output-file tools/requirements.txt
	$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--constraint tools/requirements.txt --group docs --output-file tools/docs-requirements.txt

lock-notebook: setup ## pin JupyterLab, for the notebook of compose.yaml, again
	mkdir -p build; { echo '# JupyterLab for Python 3.8 and later: `make lock-notebook`.' && echo jupyterlab | \
		$(BIN)/uv pip compile --no-config --quiet --universal --python-version 3.8 --generate-hashes --no-header \
		--no-annotate --only-binary :all: - ; } > build/notebook.txt && mv build/notebook.txt templates/compose/notebook.txt

setup: .venv/installed

.venv/installed: pyproject.toml tools/requirements.txt
	@tools/setup $(PYTHON)
	@touch $@

engine:
	@tools/engine up

browser:
	@tools/browser

registry: setup
	@tools/registry

clean: ## remove what was built here; images stay (docker image rm)
	rm -rf build receipts .venv .mypy_cache .ruff_cache .pytest_cache
