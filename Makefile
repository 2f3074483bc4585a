# Everything from a fresh clone: `make pipeline`, `make test`. Needs Python 3.11 to 3.13 and git.
PYTHON ?= python3
# Experiments that `make pipeline` and `make long` run at the same time, each on one thread.
JOBS ?= 2
SHELL := /bin/bash
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Tests wait for processes as often as they compute: three at a time on two cores.
PYTEST := OMP_NUM_THREADS=1 python -m pytest -n $$(( $$(nproc) * 3 / 2 )) --dist loadfile --no-loadscope-reorder --durations 12

.PHONY: help pipeline long results test faults thorough check docs notebooks screenshots dashboard bench clean

help:  ## Show this list.
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 20

# Compiled on all cores, which pip does not do. Some packages ship files that this Python cannot compile, and does not import.
.venv/.ready: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	.venv/bin/python -m compileall -qq -j 0 .venv/lib || true
	.venv/bin/python -m compileall -qq -j 0 src
	@touch $@

pipeline: .venv/.ready  ## Run every stage that is not up to date, show the results.
	reprise repro --jobs $(JOBS)
	@reprise results
	@echo 'See every run on the dashboard:  make dashboard'

long: .venv/.ready  ## Run the long pipeline as well: some hours on two cores.
	reprise repro --jobs $(JOBS) --all-pipelines
	@reprise results

results: .venv/.ready  ## Write docs/results.md from data/results/.
	reprise results --write docs/results.md

test: .venv/.ready  ## Run all tests but the fault tests, in parallel.
	$(PYTEST) tests --ignore tests/faults

faults: .venv/.ready  ## Run the fault tests: kills, unavailable servers, full disks, damaged and malicious files.
	$(PYTEST) tests/faults

thorough: .venv/.ready  ## Run the tests marked `long`: mostly sweeps on Ray, by submitit, shared by two projects, stopped repeatedly.
	$(PYTEST) -m long tests

check: .venv/.ready  ## Lint, types, import rules, documentation site.
	ruff check .
	ruff format --check .
	mypy
	lint-imports
	$(MAKE) --no-print-directory docs

docs: .venv/.ready  ## Build the documentation site into site/; a broken link or anchor is an error.
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict --quiet

notebooks: .venv/.ready  ## Execute the notebooks of docs/ and store their outputs: some minutes; the clothes are downloaded.
	python docs/generate/notebooks.py

screenshots: .venv/.ready  ## Photograph the dashboard for docs/: some minutes; needs Chromium.
	python docs/generate/screenshots.py

dashboard: .venv/.ready  ## Open MLflow over mlruns/ on 127.0.0.1:5000.
	reprise dashboard

bench: .venv/.ready  ## Ratios against a bare loop and against plain Lightning (minutes; by hand).
	python benchmarks/step_cost.py

clean:  ## Remove the virtual environment; data, runs and results stay.
	rm -rf .venv
