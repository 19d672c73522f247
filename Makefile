# make demo   set up, then show everything: the tutorial side by side, in the terminal and as
#             a page (plait-tour.html)
# make test   set up, then all checks and tests (under 30 minutes)
# The rest is for those who carry on; CONTRIBUTING.md says more.

PYTHON ?= python3
DEMO := .venv
DEV := .venvs/dev
SOURCES := Cargo.toml Cargo.lock pyproject.toml $(shell find src python -type f -not -name '*.so' -not -name '*.pyc')

.PHONY: demo test test-full fmt lint stubs bench clean

demo: $(DEMO)/.installed
	$(DEMO)/bin/plait tour

$(DEMO)/.installed: $(SOURCES)
	@tools/venv.sh $(PYTHON) $(DEMO)
	@echo "Building plait (the first build takes a few minutes) ..."
	$(DEMO)/bin/pip install --quiet '.[all]'
	@touch $@

test:
	tools/check.sh

test-full:
	tools/check.sh --full

# An editable install in the quick profile, with the tools that the checks use.
$(DEV)/.installed: $(SOURCES)
	@tools/venv.sh $(PYTHON) $(DEV)
	$(DEV)/bin/pip install --quiet --upgrade 'pip>=24'
	$(DEV)/bin/pip install --quiet 'maturin>=1.13,<2'
	. $(DEV)/bin/activate && maturin develop --quiet --profile quick --extras lab,notebook,peers,dev
	@touch $@

fmt: $(DEV)/.installed
	cargo fmt
	$(DEV)/bin/ruff check --fix --quiet .
	$(DEV)/bin/ruff format .

lint: $(DEV)/.installed
	cargo fmt --check
	cargo clippy --profile quick --all-targets -- -D warnings
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

stubs: $(DEV)/.installed
	tools/stubs.sh $(DEV) --write

# Ratios mean something only in a release build: it goes into the demo's environment.
bench: $(DEMO)/.installed
	$(DEMO)/bin/pip install --quiet '.[peers]'
	@for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(DEMO)/bin/python $$file || exit 1; done

clean:
	rm -rf .venv .venvs target build plait-tour.html
