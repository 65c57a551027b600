# make bench   a fresh clone to the finished report, without a GPU or a download of data
# make test    what CI runs; make test-exhaustive: what that leaves out, for more models and in other settings
# make gpu     all that needs a GPU, measured once: tests, decoders, suites; make gpu-short: in twelve minutes
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= runs/quick
# One process more than there are cores, as many tests wait for processes of their own; files stay together, as their
# fixtures train.
PARALLEL := -n $(shell n=$$(nproc); echo $$((n < 4 ? n + 1 : 4))) --dist loadfile --no-loadscope-reorder

# The tests start some hundred processes: without bytecode each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: bench test test-exhaustive catalog docs benchmark gpu gpu-short install install-dev clean

bench: install
	$(BIN)/reelbench run quick --out $(OUT)

test: install-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/vulture *.py harness models pipelines reports suites
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

test-exhaustive: install-dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -m exhaustive $(PARALLEL)

# The counts that `reelbench models` shows, which come with the package: anew after a change to the models' code.
catalog: install
	$(BIN)/python -m reelbench.harness.listing
	$(BIN)/python tests/zoo_table.py

# The site, into site/; a link or an anchor that leads nowhere fails. The package is read under its name, not imported.
docs: $(VENV)/installed-docs
	mkdir -p build/docs && ln -sfn "$(CURDIR)" build/docs/reelbench
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

benchmark: install-dev
	$(BIN)/pytest tests/benchmarks --benchmark-only

gpu: install-dev $(VENV)/installed-rivals
	$(BIN)/python tests/gpu/reference.py

gpu-short: install-dev $(VENV)/installed-rivals
	$(BIN)/python tests/gpu/reference.py --short

install: $(VENV)/installed
install-dev: $(VENV)/installed-dev node_modules/installed

# The linter of the report's script. Without node, or offline, its test is skipped and says so.
node_modules/installed: package.json
	@command -v npm >/dev/null && npm install --silent --no-package-lock --no-audit --no-fund --fetch-retries=0 && touch $@ \
		|| echo "no linter of the report's script: that needs npm and a network"

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/installed-dev: pyproject.toml constraints.txt | $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .[dev]
	touch $@ $(VENV)/installed

$(VENV)/installed-docs: pyproject.toml constraints.txt | $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .[docs]
	touch $@

# What is compared with ours; where it cannot be installed, `data bench` says what is missing.
$(VENV)/installed-rivals: $(VENV)/installed-dev
	-$(BIN)/python -m pip install --quiet -c constraints.txt -e .[rivals,torchvision]
	touch $@

$(VENV):
	@$(PYTHON) -c 'import sys; sys.exit("reelbench needs Python 3.10 or newer, $(PYTHON) is " + sys.version.split()[0]) if sys.version_info < (3, 10) else None'
	@$(PYTHON) -c 'import ensurepip, venv' || { echo "reelbench: Python lacks venv: install python3-venv"; exit 2; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) node_modules runs build site *.egg-info
