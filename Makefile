.DEFAULT_GOAL := help
SHELL := /bin/sh

PORT ?= 8000
HOST ?= 127.0.0.1
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 .venv/bin/python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
N ?= 10
NODE_FOR_GENERATORS := node --eval 'const [a, b] = process.versions.node.split("."); process.exit(+(a < 20 || (a == 20 && b < 19)))'
# As many processes as tests/conftest.py finds right; one that is out of work takes some from another.
PARALLEL ?= --numprocesses=auto --maxprocesses=8 --dist=worksteal

# Python writes bytecode when it first imports a file, as the install leaves that out.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install run test test-fast test-all test-repeat check ha-test coverage lint types imports format docker-test clients-test manifests prometheus-rule bench bench-siblings bench-mail bench-migrations attack openapi migration requirements clean bench-scale check-simulation

help: ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

install: ## .venv as poetry.lock says; every target that needs it does this first
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: https://www.python.org/downloads/"; exit 1; }
	@$(PYTHON) requirements/install.py

run: export ENVIRONMENT ?= development
run: export UVICORN_PORT = $(PORT)
run: install ## start PostgreSQL, migrate, and serve on PORT (8000) with reload
	@echo "Swagger UI: http://$(HOST):$(PORT)/docs   (Ctrl-C ends it)"
	@$(BIN)/python -m app.dev $(BIN)/python -m app.serve --host $(HOST) --reload --reload-dir app

test: install ## the tests but the slow ones, on a PostgreSQL of their own (or TEST_DATABASE_URL)
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

test-fast: install ## those of them that start no program of their own
	@$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not process"

test-all: install ## all tests
	@$(BIN)/python -m pytest $(PARALLEL)

test-repeat: install ## all tests N times, to the first red run: make test-repeat N=10
	@$(BIN)/python -m tests.repeat $(N) $(PARALLEL)

ha-test: install ## let databases and replicas fail and be replaced under honest clients, and print what those felt (2 minutes)
	@$(BIN)/python -m pytest tests/ha_checks.py tests/rollout_checks.py --capture=no --quiet

check: lint types imports manifests clients-test test-all ha-test ## all that CI runs: lint, types, import contracts, all tests

coverage: install ## the tests with branch coverage; the tracer of greenlets is slow, and can come to a halt
	@$(BIN)/python -m pytest $(PARALLEL) --cov

lint: install ## ruff: rules and formatting; hadolint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/hadolint Dockerfile

types: install ## mypy --strict
	@$(BIN)/mypy
	@cd clients/python && ../../$(BIN)/mypy

imports: install ## the layers of docs/architecture.md
	@$(BIN)/lint-imports --no-cache

format: install ## let ruff rewrite what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clients-test: install ## the clients, also generated ones: tests, types; TypeScript's where there is Node.js 20.19
	@cd clients/python && ../../$(BIN)/python -m pytest --quiet
	@if node --eval 'process.exit(Number(process.versions.node.split(".")[0] < 20))' 2>/dev/null; then \
		cd clients/typescript && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent; } \
			&& npm test --silent && npm pack --silent --dry-run; \
	else echo "There is no Node.js 20 or newer here: the tests of clients/typescript are left out."; fi
	@if $(NODE_FOR_GENERATORS) 2>/dev/null; then \
		cd clients/generated && { [ node_modules/.package-lock.json -nt package-lock.json ] || npm ci --silent; } \
			&& { [ .venv/installed -nt requirements.txt ] || { ../../$(BIN)/python -m venv .venv \
				&& .venv/bin/python -m pip install --quiet -r requirements.txt && touch .venv/installed; }; } \
			&& cd ../.. && $(BIN)/python -m pytest --quiet tests/generated_clients.py; \
	else echo "There is no Node.js 20.19 or newer here: generated clients are left out."; fi

manifests: install ## deploy/kubernetes against the schemas of Kubernetes, where there is kubectl
	@[ .venv/manifests/installed -nt requirements/manifests.txt ] || { rm -rf .venv/manifests && $(BIN)/python -m pip \
		install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes --target .venv/manifests \
		--requirement requirements/manifests.txt && touch .venv/manifests/installed; }
	@PYTHONPATH=.venv/manifests $(BIN)/python -m tests.manifests

prometheus-rule: install ## write the alerts of deploy/kubernetes from those of deploy/prometheus
	@$(BIN)/python -m tests.manifests --write-alerts

docker-test: install ## build the images and try the stack, where there is a Docker engine (minutes)
	@$(BIN)/python -m pytest tests/docker_checks.py -v -rs -s

bench: install ## requests/s, latency and CPU beside their limits (several minutes)
	@$(BIN)/python -m benchmarks.bench

bench-siblings: clients-test ## how soon both clients refuse who signed out, and what a verification costs
	@PYTHONPATH=clients/python/src $(BIN)/python -m benchmarks.siblings
	@PYTHONPATH=clients/python/src $(BIN)/python clients/python/benchmark.py
	@cd clients/typescript && npm run --silent benchmark

bench-mail: install ## how fast mails leave, and what that costs the requests meanwhile
	@$(BIN)/python -m benchmarks.mail

bench-migrations: install ## how long each migration keeps requests waiting, at a million users (minutes)
	@$(BIN)/python -m benchmarks.migrations

bench-scale: install ## me, refresh, lists and clean-up at a thousand and at ten million users (15 minutes, 20 GB)
	@$(BIN)/python -m benchmarks.scale

check-simulation: install ## what benchmarks/simulate.py says beside what the service does (a minute)
	@$(BIN)/python -m benchmarks.simulation_check

attack: install ## guess, flood and linger, and print what came of it beside its bars (minutes)
	@$(BIN)/python -m benchmarks.attack

openapi: install ## write docs/openapi.json, which clients are generated from
	@$(BIN)/python -m tests.openapi

migration: install ## a revision from the models: make migration m="add boards"
	@ENVIRONMENT=development $(BIN)/python -m app.dev sh -c \
		'$(BIN)/alembic upgrade head && $(BIN)/alembic revision --autogenerate -m "$(m)"'

requirements: ## export poetry.lock to requirements/ (needs poetry and poetry-plugin-export)
	poetry export --output requirements/main.txt
	poetry export --extras tracing --output requirements/tracing.txt
	poetry export --with dev --output requirements/dev.txt
	poetry export --only manifests --output requirements/manifests.txt

clean: ## remove the environment and the development data
	rm -rf .venv .data .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage
