# `make demo` and `make test` do everything on a fresh machine; both stand on `make install`.
PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed

.PHONY: install demo test test-slow test-long check docs clean

install: $(STAMP)

$(STAMP): pyproject.toml cluster/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rayfed needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c cluster/constraints.txt -e '.[dev]'
	@touch $@

demo: install
	$(VENV)/bin/rayfed run jobs/demo.yaml

test: install
	$(VENV)/bin/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test-slow: install
	$(VENV)/bin/python -m pytest -m "slow and not long" -n 2 --dist loadfile --no-loadscope-reorder --durations=10

test-long: install
	$(VENV)/bin/python -m pytest -m long

check: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python tools/config_reference.py --check
	$(VENV)/bin/python tools/dashboard.py --check
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/shellcheck cluster/node/*.sh

docs: install
	$(VENV)/bin/python tools/config_reference.py
	$(VENV)/bin/python tools/dashboard.py

clean:
	rm -rf $(VENV) build *.egg-info
