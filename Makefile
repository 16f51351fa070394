# make demo: a small benchmark indexed, searched and scored. make test: the tests. Both make .venv first if it is not there.
# EXTRAS=peers,heif installs further extras of setup.cfg, PYTHON=python3.12 chooses the interpreter, JOBS=8 runs more
# tests at a time.

PYTHON ?= python3
VENV ?= .venv
EXTRAS ?=
JOBS ?= 2
RUN = $(VENV)/bin/python
comma := ,

.PHONY: demo test test-long lint clean

demo: $(VENV)/installed-demo
	$(RUN) main.py --mode=demo --output=demo-output

test: $(VENV)/installed-test$(subst $(comma),-,$(EXTRAS))
	$(RUN) -m ruff check .
	$(RUN) -m pytest -m "not long" -n $(JOBS) --dist loadfile

test-long: $(VENV)/installed-test$(subst $(comma),-,$(EXTRAS))
	$(RUN) -m pytest -n $(JOBS) --dist loadfile

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .

# One stamp for each set of extras; a changed setup.cfg installs anew.
$(VENV)/installed-%: setup.cfg pyproject.toml | $(VENV)/bin/python
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable ".[$(if $(findstring demo,$*),demo,test$(if $(EXTRAS),$(comma)$(EXTRAS)))]"
	touch $@

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf $(VENV) build dist demo-output *.egg-info .pytest_cache .ruff_cache
