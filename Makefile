# Everything that is ever run on the project, by people and by CI; `make` alone lists it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help
# cargo uses every core by itself, and two cargos would only wait for each other.
.NOTPARALLEL:
.DELETE_ON_ERROR:

VENV := .venv
BINARIES := $(or $(CARGO_TARGET_DIR),target)/debug
CARGO_DENY := $(shell command -v cargo-deny)

.PHONY: help dev fmt lint test interop interop-facade bench deny ci tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

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

# With --tests the binary is the one that `make test` has built: dev-dependencies switch on features
# of others, and without them a part of the tree would be compiled once more.
interop: tools $(VENV)/.installed interop-facade ## run stock Python clients against the server, on both stores
	cargo build --locked --bins --tests --examples
	$(VENV)/bin/python tests/interop/run --binary $(BINARIES)/longhaul

interop-facade: tools $(VENV)/.installed ## run examples/facade in each of its ways, and stock clients against it
	cargo build --locked --bins --tests --examples
	$(VENV)/bin/python tests/interop/facade.py --binaries $(BINARIES)

bench: tools ## measure the release build and write the table of docs/performance.md
	scripts/bench

deny: ## check licences, banned crates and sources
	@$(if $(CARGO_DENY),,echo "cargo-deny is missing; to install it: cargo install --locked cargo-deny" >&2; exit 1)
	cargo deny --locked check licenses bans sources

# The quickest to fail comes first.
ci: lint $(if $(CARGO_DENY),deny) test interop ## run all checks, as CI does
	@$(if $(CARGO_DENY),,echo "Not checked: licences, bans and sources, for want of cargo-deny.")
	@echo "All checks passed."

tools:
	@scripts/install-test-tools

$(VENV)/.installed: tests/interop/requirements.txt | tools
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --requirement $<
	touch $@
