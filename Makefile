# One command each; the first of them sets up the virtual environment. `make` alone lists them.

VENV ?= .venv
# python3.11 is run, not only looked up: a version manager's stand-in may be on the PATH without a Python behind it.
PYTHON ?= $(shell python3.11 -c 'print("python3.11")' 2>/dev/null || echo python3)

FLOOR := .venv-floor
# What depends on libraries most: files, types, models, deployments, bytes. Property tests draw the same examples each time.
FLOOR_MAIN := --hypothesis-seed=0 tests/floor tests/scoring tests/test_same_bytes.py tests/test_deployments.py
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
AZURITE := tests/azure/node_modules/.package-lock.json
RECIPES := .venv-recipes/.installed

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo azurite-demo test thorough test-floor test-floor-main torture lint types check image-test bench bench-quick clean

help: ## List the commands
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do printf '  make %-16s %s\n' "$$name" "$$text"; done

venv: $(INSTALLED) ## Set up the virtual environment, or bring it up to date

# The lock makes a second `make` in the same folder wait for the first and find its work done.
$(INSTALLED): pyproject.toml constraints.txt
	@exec 9>>"$(VENV).lock" && $(PYTHON) -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' && \
	if [ "$@" -nt pyproject.toml ] && [ "$@" -nt constraints.txt ]; then exit 0; fi && \
	echo "Setting up $(VENV) with $$($(PYTHON) --version) (a minute or two) ..." && \
	$(PYTHON) -m venv "$(VENV)" && \
	"$(BIN)/python" -m pip install -qq --disable-pip-version-check -c constraints.txt -e '.[dev]' && \
	touch "$@"

demo: $(INSTALLED) ## Score sample data with a sample model
	@"$(BIN)/scoreline" demo

azurite-demo: $(INSTALLED) $(AZURITE) ## The same from blob to blob, on Azurite
	@"$(BIN)/python" -m tests.azure.demo

test: $(INSTALLED) $(AZURITE) $(RECIPES) ## Run the tests
	"$(BIN)/python" -m pytest -n 2 -q

thorough: $(INSTALLED) $(AZURITE) ## The same with all cases, and more examples, that the usual run leaves out
	SCORELINE_THOROUGH=1 SCORELINE_EXAMPLES=400 "$(BIN)/python" -m pytest -n 2 -q

# Without npm, or a network, the tests that need Azurite say so.
$(AZURITE): tests/azure/package.json tests/azure/package-lock.json
	@if command -v npm >/dev/null && [ -z "$$SCORELINE_AZURITE" ]; then \
	cd tests/azure && npm ci --silent && touch node_modules/.package-lock.json || [ "$$CI" != true ]; fi

# What reads the recipes in docker/. Where it cannot be installed, their test says so.
$(RECIPES): tests/containers/requirements.txt | $(INSTALLED)
	@rm -rf .venv-recipes && "$(BIN)/python" -m venv --without-pip .venv-recipes && \
	"$(BIN)/python" -m pip --python .venv-recipes/bin/python install -qq --disable-pip-version-check --no-deps --no-compile -r $< && \
	touch $@ || rm -rf .venv-recipes

# .ci/run runs it as well; where no image can be built it says why, and passes. Its parts that need no engine are in `make test`.
image-test: $(INSTALLED) $(AZURITE) ## Build docker/Dockerfile with buildah and run it (root; some 8 minutes)
	"$(BIN)/python" -m tests.containers.check_image $(FOLDER)

# Warnings that are errors elsewhere are none here: libraries of 2023 use what Python and each other have given up since.
# What the pins of the dev extra need is not asked, for not all of it is installed.
test-floor: $(INSTALLED) $(FLOOR)/.installed $(AZURITE) ## Run the tests with the oldest libraries, and score models of each version with the other (TESTS=FILES)
	SCORELINE_TEST_OTHER_PYTHON="$(abspath $(BIN))/python" "$(FLOOR)/bin/python" -m pytest -n 2 -q --timeout 300 \
	-W ignore::DeprecationWarning -W ignore::UserWarning -W ignore::ResourceWarning \
	--deselect tests/test_packaging.py::test_pins_cover_what_dependencies_need $(TESTS)

test-floor-main: ## The main parts of that: what .ci/run runs of it
	@$(MAKE) --no-print-directory test-floor TESTS="$(FLOOR_MAIN)"

$(FLOOR)/.installed: pyproject.toml constraints-floor.txt
	@echo "Setting up $(FLOOR) with $$($(PYTHON) --version) (a minute or two) ..."
	@$(PYTHON) -m venv "$(FLOOR)"
	@"$(FLOOR)/bin/python" -m pip install -qq --disable-pip-version-check -c constraints-floor.txt \
	-e . setuptools hypothesis pytest pytest-timeout pytest-xdist skops
	@touch "$@"

torture: $(INSTALLED) $(if $(filter azurite,$(STORE)),$(AZURITE)) ## Kill random processes of random jobs, 300 times (STORE=azurite: on Blob storage)
	"$(BIN)/python" -m tests.torture --store "$(or $(STORE),local)"

lint: $(INSTALLED) ## Run ruff
	"$(BIN)/ruff" check .

types: $(INSTALLED) ## Run mypy
	"$(BIN)/mypy"

check: lint types test ## Run lint, types and tests (layering is among the tests)

bench: $(INSTALLED) ## Measure against all peers, and write benchmarks/results/ (ONLY="tiny gz" PEERS="pool ray": a part of it)
	"$(BIN)/python" -m benchmarks.bench --resume $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

bench-quick: $(INSTALLED) ## Measure once with small inputs, in under 5 minutes; nothing is written
	"$(BIN)/python" -m benchmarks.bench --quick $(if $(ONLY),--only $(ONLY)) $(if $(PEERS),--peers $(PEERS))

clean: ## Delete .venv and the caches of the tools
	rm -rf tests/azure/node_modules .venv .venv-recipes .venv.lock .venv-floor .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
