# make demo: a small benchmark evaluated, indexed and searched. make test: the tests. make test-lowest: the tests with the
# lowest versions that setup.cfg allows. make mutants: whether the tests catch small breakages of the package. make docs: the
# pages of the library in docs/api. Each makes its environment first.
# EXTRAS=peers,heif installs further extras of setup.cfg, PYTHON=python3.12 chooses the interpreter, JOBS=8 runs more
# tests at a time.

PYTHON ?= python3
VENV ?= .venv
LOWEST ?= .venv-lowest
EXTRAS ?=
JOBS ?= 2
RUN = $(VENV)/bin/python
comma := ,
TESTS = $(VENV)/installed-test$(addprefix -,$(subst $(comma),-,$(EXTRAS)))
API = docs/api

.PHONY: demo test test-long test-lowest mutants lint docs pages clean

demo: $(VENV)/installed-demo
	$(RUN) main.py --mode=demo --output=demo-output

test: $(TESTS)
	$(RUN) -m ruff check .
	$(RUN) -m pytest -m "not long" -n $(JOBS) --dist loadfile

test-long: $(TESTS)
	$(RUN) -m pytest -n $(JOBS) --dist loadfile

# Small breakages of a copy of the package, and whether the tests catch each; ONLY=ranking runs a part.
mutants: $(TESTS)
	$(RUN) tests/mutants.py --jobs $(JOBS) --only '$(ONLY)'

# The lowest versions that setup.cfg allows, in an environment of their own; TESTS_LOWEST=tests/images runs a part.
test-lowest: $(LOWEST)/installed
	$(LOWEST)/bin/python -m pytest -m "not long" -n $(JOBS) --dist loadfile $(TESTS_LOWEST)

$(LOWEST)/installed: setup.cfg tests/lowest.py
	rm -rf $(LOWEST)
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/python tests/lowest.py test,heif > $(LOWEST)/pins.txt
	$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(LOWEST)/pins.txt --editable ".[test,heif]"
	touch $@

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .

docs: $(VENV)/installed-test-docs
	$(MAKE) --no-print-directory pages
	$(RUN) -m pytest tests/test_docs.py

pages:
	$(RUN) docs/write_pages.py $(API)

# One stamp for each set of extras; a changed setup.cfg installs anew.
$(VENV)/installed-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[$(subst -,$(comma),$*)]"
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) $(LOWEST) build dist demo-output $(API) *.egg-info .pytest_cache .ruff_cache
