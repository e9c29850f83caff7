# Everything a person types. `make` lists the targets.

CARGO ?= cargo
BINARY := target/release/ottla

.DEFAULT_GOAL := help
.PHONY: help run build test unit sim fuzz e2e faults torture tools fix verify deny bench scale

help: ## Lists the targets
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9]+):.*## (.*)/  make \1\t\2/' | expand -t 16

run: build ## Runs the server: Kafka on 127.0.0.1:9092, data in ./ottla-data
	$(BINARY) server

build: ## Builds the release binary, target/release/ottla
	$(CARGO) build --release --locked -p ottla

test: tools unit e2e ## Installs what the tests need into .tools/ and runs all of them

tools: ## Installs what the end-to-end tests need into .tools/
	tests/tools/install.sh

unit: ## Runs the tests of the crates
	$(CARGO) test --locked

sim: ## Runs 100,000 schedules of the commit protocol (SEEDS=n for another number)
	OTTLA_SIM_SEEDS=$(or $(SEEDS),100000) $(CARGO) test --locked --release -p ottla-sim -- --nocapture

fuzz: ## Gives damaged bytes to everything that reads bytes from outside (FOR=10m SEED=n TARGET=name)
	$(CARGO) run --locked -p ottla-fuzz -- --for $(or $(FOR),10m) $(if $(SEED),--seed $(SEED)) $(if $(TARGET),--target $(TARGET))

e2e: build ## Runs the end-to-end suites against the release binary (after make tools)
	$(CARGO) test --locked -p ottla-tests --tests -- --test-threads=2

faults: build ## Runs the fault suite with outages as long as docs/failures.md says (4 minutes)
	tests/tools/install.sh
	OTTLA_LONG=1 $(CARGO) test --locked -p ottla-tests --test faults -- --test-threads=2 --nocapture

torture: build ## Kills, freezes and restarts a server on a failing store (FOR=10m SEED=n)
	tests/tools/install.sh
	$(CARGO) run --release --locked -p ottla-tests --bin torture -- --for $(or $(FOR),10m) $(if $(SEED),--seed $(SEED))

fix: ## Formats and applies the fixes that the lints offer
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all

verify: ## Checks format, lints, links of the docs and dependency rules; writes nothing
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps
	$(CARGO) test --locked -p ottla-tests --test architecture

deny: ## Checks all dependencies with cargo-deny (cargo install cargo-deny --locked)
	$(CARGO) deny --locked check

bench: build ## Measures Ottla beside Apache Kafka on this machine (CASES="throughput start" for some cases)
	tests/tools/install.sh bench
	$(CARGO) build --release --locked -p ottla-control-plane --example apply_speed
	$(CARGO) run --release --locked -p ottla-benches -- $(CASES)

scale: build ## Measures one node with many partitions, connections, a backlog (CASES="a b" for some)
	$(CARGO) run --release --locked -p ottla-benches --bin ottla-scale -- $(CASES)
