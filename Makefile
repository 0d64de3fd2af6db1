# All commands of the project, for people and CI; `make` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
# cargo uses every core by itself, and two cargos would only wait for each other.
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BINARIES := $(or $(CARGO_TARGET_DIR),target)/debug
BINARY := $(BINARIES)/longhaul
# Tools that take long to build are kept in the folder that LONGHAUL_TOOLS names, such as a cache of CI.
CARGO_DENY := $(firstword $(if $(LONGHAUL_TOOLS),$(wildcard $(LONGHAUL_TOOLS)/bin/cargo-deny)) $(shell command -v cargo-deny))

# The tools that the interop runs build for themselves.
export PATH := $(CURDIR)/.bin:$(PATH)
# A Go that is too old for examples/go gets the newer one that go.mod asks for.
export GOTOOLCHAIN ?= auto

LANGUAGES := python go node java
INTEROP := $(addprefix interop-,$(LANGUAGES) rust grpcurl browser webhooks)
GRPCURL := test -x .bin/grpcurl || \
	GOBIN=$(CURDIR)/.bin go install github.com/fullstorydev/grpcurl/cmd/grpcurl@latest
FETCHED := .bin/.fetched
export PYTHON := $(CURDIR)/$(VENV)/bin/python
export PROTOC := $(PYTHON) -m grpc_tools.protoc

.PHONY: help dev fmt lint test fuzz history interop $(INTEROP) interop-facade schemathesis watch http readme bench deny deny-tool ci tools binary

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

dev: ## run a server with a sample worker, and print what to type next
	cargo run --locked --release -- dev

fmt: ## format the Rust sources
	cargo fmt

lint: ## check format, lints and documentation
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" cargo doc --locked --no-deps

test: tools ## run every Rust test, after installing what the tests need
	cargo test --locked

# Cases of each random test; a case takes less than a millisecond.
fuzz: CASES := 20000
fuzz: ## run the random tests of all parsers of bytes from outside: CASES=20000
	PROPTEST_CASES=$(CASES) cargo test --locked --lib -- filter::tests::random types::tests::no_bytes engine::identity engine::jwt expression::tests::no_text ::any_

# Duration of the faults; SEED=... repeats the choices of a failed history.
history: SECONDS := 600
history: tools ## run long histories with crashes and cuts, and check them: SECONDS=600 SEED=...
	$(if $(SEED),LONGHAUL_SEED=$(SEED)) LONGHAUL_HISTORY_SECONDS=$(SECONDS) \
		cargo test --locked --test it history_full_of_accidents -- --nocapture

interop: $(FETCHED) $(INTEROP) interop-facade ## run clients in every language against the server
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) mixed

interop-python: binary $(VENV)/.installed ## run stock Python clients on both stores, over REST too, and the Python examples
	examples/python/build
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) clients python python-stream python-rest

interop-go: binary $(VENV)/.installed ## run the Go examples and Go's stock client
	@scripts/install-test-tools go
	examples/go/build
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) go go-stream

interop-node: binary $(VENV)/.installed ## run the TypeScript examples, and google-gax over gRPC and REST
	@scripts/install-test-tools node
	examples/node/build
	tests/interop/rest/build node
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) node node-stream node-rest

interop-java: binary $(VENV)/.installed ## run the Java examples, and gax over gRPC and REST
	@scripts/install-test-tools java
	examples/java/build
	tests/interop/rest/build java
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) java java-rest

interop-rust: binary $(VENV)/.installed ## run Google's crates for operations, over REST
	tests/interop/rest/build rust
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) rust-rest

interop-browser: binary $(VENV)/.installed ## run a page in headless Chromium
	@scripts/install-test-tools node browser
	tests/interop/web/build
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) browser

interop-webhooks: binary $(VENV)/.installed ## let reference libraries check deliveries, run examples/webhooks and examples/tictactoe
	@scripts/install-test-tools node
	tests/interop/webhooks/build
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) webhooks

interop-grpcurl: binary $(VENV)/.installed ## run grpcurl as the README does
	@scripts/install-test-tools go
	$(GRPCURL)
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) grpcurl

interop-facade: binary $(VENV)/.installed ## run the three variants of examples/facade, and stock clients against them
	$(VENV)/bin/python tests/interop/facade.py --binaries $(BINARIES)

schemathesis: binary $(VENV)/.installed ## hold the server to its OpenAPI document, also by random requests
	$(VENV)/bin/python tests/interop/run --binary $(BINARY) openapi

# Fetch in parallel, since that is mostly waiting; the targets use the result.
$(FETCHED): examples/go/go.sum examples/node/package-lock.json examples/java/pom.xml | binary $(VENV)/.installed
	@scripts/install-test-tools $(filter-out python,$(LANGUAGES))
	builds=(); \
	for language in $(LANGUAGES); do examples/$$language/build & builds+=($$!); done; \
	$(GRPCURL); \
	for build in "$${builds[@]}"; do wait "$$build"; done
	mkdir -p $(@D) && touch $@

watch: binary ## check that a watch on a terminal shows every frame of docs/watch.md
	scripts/record-watch --binary $(BINARY) --check

http: binary ## run every command of docs/http.md, and check what it states
	scripts/http-commands --binary $(BINARY)

readme: $(VENV)/.installed ## run every command of the README, in a fresh clone with a fresh home
	@scripts/install-test-tools go
	scripts/readme

bench: tools ## measure the release build and write the table of docs/performance.md
	scripts/bench

deny: ## check licences, banned crates and sources
	@$(if $(CARGO_DENY),,echo "cargo-deny is missing; to install it: make deny-tool LONGHAUL_TOOLS=FOLDER, or cargo install --locked cargo-deny" >&2; exit 1)
	$(CARGO_DENY) --locked check licenses bans sources

deny-tool: ## build cargo-deny once, into the folder LONGHAUL_TOOLS
	@$(if $(LONGHAUL_TOOLS),,echo "name a folder that is kept: make deny-tool LONGHAUL_TOOLS=FOLDER" >&2; exit 1)
	$(if $(wildcard $(LONGHAUL_TOOLS)/bin/cargo-deny),,cargo install --locked --root $(LONGHAUL_TOOLS) cargo-deny)

# The quickest to fail comes first.
ci: lint $(if $(CARGO_DENY),deny) test fuzz watch http schemathesis readme interop ## run all checks, as CI does
	@$(if $(CARGO_DENY),,echo "Not checked: licences, bans and sources, because cargo-deny is not installed.")
	@echo "All checks passed."

tools:
	@scripts/install-test-tools

# With --tests the binary is the one that `make test` has built: dev-dependencies enable features of
# other crates, and without them a part of the tree would be compiled again. `make interop
# BINARY=...` uses an existing binary.
binary: tools
	$(if $(filter command,$(firstword $(origin BINARY))),,cargo build --locked --bins --tests --examples)

$(VENV)/.installed: tests/interop/requirements.txt | tools
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
