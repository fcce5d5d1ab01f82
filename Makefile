# `make test` on a fresh Debian or Ubuntu with the Rust toolchain installs what is missing and tests everything.
# Everything is built with --release, so that dependencies are compiled once.

CARGO ?= cargo
STACK = python3 tests/stack/stack.py
FAULTS = $(STACK) run -- python3 -m tests.faults.run
LEAKS = $(STACK) run -- sh -c 'python3 -m tests.leaks.test_forms && python3 -m tests.leaks.run $(LEAKS_ARGS)'
FUZZ_SECONDS ?= 60
# What hangs is ended, after many times of what it usually takes, and said so; the seconds are told: $(call within,MINUTES,COMMAND).
# Processes of the command that are in sessions of their own are ended by stack.py. LIMIT=0: by itself, as often and as long as one likes.
within = begun=$$(date +%s); code=0; timeout --kill-after=30 $(or $(LIMIT),$(1))m $(2) || code=$$?; \
	[ $$code != 124 ] || echo "make $@: ENDED, not done after $(1) minutes"; echo "make $@: $$(($$(date +%s) - begun)) s"; exit $$code
# Damaged GeoIP databases that `make soak` tries; `make test` tries 10,000.
MMDB_MUTANTS ?= 1000000

# For `pressline --version`; only the program itself is linked again when it changes.
ifndef PRESSLINE_COMMIT
PRESSLINE_COMMIT := $(shell git describe --always --dirty --exclude '*' --abbrev=12 2>/dev/null)
endif
export PRESSLINE_COMMIT

.DEFAULT_GOAL := help
.PHONY: help build test test-build test-pipelines test-schemas test-packaging test-programs test-faults test-cargo test-leaks test-grafana test-questions test-cdc test-web test-service test-relay-faults test-load-faults unit lint deny schemas man prerequisites stack-up stack-down demo bench microbench deb packaging-test clean-stack stack-test build-faults faults load-faults leaks grafana questions cdc superset soak mutants fuzz scaling profile instructions bench-reload bench-outage bench-cold bench-web web-test web-recording

help: ## show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build target/release/pressline
	$(CARGO) build --release --locked

test: prerequisites build build-faults ## all tests, with a real Kafka and schema registry started for them
	$(MAKE) test-build
	$(MAKE) --jobs 2 --keep-going test-programs test-faults
	$(MAKE) test-pipelines test-schemas test-packaging test-service

test-build:
	$(call within,60,$(CARGO) test --release --locked --no-run)

# The fixtures beside the shipped pipelines.
test-pipelines:
	$(call within,1,target/release/pressline test pipelines pipelines/orders)

test-schemas:
	$(call within,5,python3 -m tests.schemas.run)

test-packaging: man
	$(call within,10,python3 -m tests.packaging.run)
	$(call within,2,python3 -m tests.packaging.kubernetes)

# Side by side, each with services of its own: while one waits for its broker the other works. Not while tests are compiled: that
# would take three times as long. The faults stand back, since they have more patience than the programs' tests.
test-programs:
	$(STACK) run -- $(MAKE) --jobs 1 --keep-going test-cargo test-leaks test-grafana test-questions test-cdc test-web

test-faults: SHELL = /bin/bash
test-faults:
	set -o pipefail; PRESSLINE_STACK_FOLDER=target/stack-faults nice -n 5 $(STACK) run -- $(MAKE) --jobs 1 --keep-going \
		test-relay-faults test-load-faults 2>&1 | sed --unbuffered 's/^/| /'

# More threads than cores: most tests wait for brokers and time-outs.
test-cargo:
	$(call within,40,env RUST_TEST_THREADS=4 $(CARGO) test --release --locked --no-fail-fast)

test-leaks:
	$(call within,15,$(LEAKS))

test-grafana:
	$(call within,10,$(STACK) run -- python3 -m tests.grafana.run)

test-questions:
	$(call within,10,$(STACK) run -- python3 -m tests.questions.run)

test-cdc:
	$(call within,10,$(STACK) run -- python3 -m tests.cdc.run $(CDC_ARGS))

test-web:
	$(call within,10,python3 -m tests.web.run $(WEB_ARGS))
	$(call within,10,$(STACK) run -- python3 -m tests.web.services $(WEB_SERVICES_ARGS))

test-service:
	$(call within,10,$(STACK) run -- python3 -m tests.packaging.service)

test-relay-faults:
	python3 -m tests.harness.test_imports
	python3 -m tests.harness.test_checker
	python3 -m tests.faults.test_results
	$(call within,30,$(FAULTS) --suite test --jobs 3 $(FAULTS_ARGS))

test-load-faults:
	$(STACK) run -- python3 -m tests.harness.test_tables
	$(call within,40,$(FAULTS) --suite load-test --jobs 3 $(FAULTS_ARGS))

build-faults: ## build pressline with fail points and mutants beside it, for the fault harness
	$(CARGO) build --release --locked --features fail-points,mutants --bin pressline
	install -D target/release/pressline target/faults/pressline
	$(CARGO) build --release --locked

faults: prerequisites build-faults ## kills, stops, rebalances and broken networks under load: no event lost or duplicated; FAULTS_ARGS="--only kill"
	$(MAKE) test-relay-faults LIMIT=0

load-faults: prerequisites build-faults ## the same for the sinks: kills, stops, broken databases; no row lost or duplicated in either table
	$(MAKE) test-load-faults LIMIT=0

leaks: prerequisites build-faults ## every byte that leaves pressline is searched for 100,000 addresses in every form; LEAKS_ARGS="--addresses 1000"
	$(MAKE) test-leaks LIMIT=0

grafana: prerequisites build ## a real run under the dashboards: every query returns data, every alert is tested, metrics are as documented
	$(MAKE) test-grafana

cdc: prerequisites build ## real Debezium under a random workload: each table at the source equals those in both databases; CDC_ARGS="--changes 100000 --kills 20"
	$(MAKE) test-cdc LIMIT=0

questions: prerequisites build ## sql/questions on both databases: every view against an oracle, planted answers come out again, the dashboards on them
	$(MAKE) test-questions LIMIT=0

superset: prerequisites build ## Superset's dashboard against both databases, from import to screenshots in target/superset (needs chromium; a gigabyte of packages)
	$(STACK) run -- python3 -m tests.superset.run

soak: prerequisites build-faults ## the fault tests a thousand times, resumable; FAULTS_ARGS="--kills 100 --times 20"
	$(FAULTS) --suite soak $(FAULTS_ARGS)
	$(FAULTS) --suite load-soak $(FAULTS_ARGS)
	PRESSLINE_TEST_REPLAY=2000000 $(STACK) run -- $(CARGO) test --release --locked --test replay remote -- --nocapture
	$(STACK) run -- python3 -m tests.leaks.run --addresses 1000000 --only sound
	PRESSLINE_MMDB_MUTANTS=$(MMDB_MUTANTS) $(CARGO) test --release --locked --test mmdb_mutants -- --nocapture
	fuzz/run $(FUZZ_SECONDS)
	$(MAKE) bench-outage

fuzz: ## arbitrary bytes for every decoder, each for FUZZ_SECONDS=60
	fuzz/run $(FUZZ_SECONDS)

scaling: prerequisites build ## 1, 2 and 3 processes on 6 partitions: shares, and pauses when one joins or leaves
	$(STACK) run -- python3 -m tests.faults.scaling $(SCALING)

mutants: prerequisites build-faults ## guarantees broken on purpose, each of which the faults must catch
	$(FAULTS) --suite mutants $(FAULTS_ARGS)
	$(FAULTS) --suite load-mutants $(FAULTS_ARGS)

unit: ## the tests that need no services
	$(CARGO) test --release --locked --lib --bins

schemas: build ## write schemas/*.schema.json anew, from the configuration's types
	for of in pipeline pressline test; do target/release/pressline schema $$of > schemas/$$of.schema.json; done

man: build ## what the package has beside the program, made by the program itself: manual pages, shell completion
	rm -rf target/man && target/release/pressline man target/man
	mkdir -p target/completions
	for shell in bash zsh fish; do target/release/pressline completions $$shell > target/completions/pressline.$$shell; done

deb: man ## the Debian package, target/debian/pressline_VERSION_ARCH.deb (needs cargo-deb)
	$(CARGO) deb --no-build --no-dbgsym --strip $(DEB)

packaging-test: prerequisites man ## units, package and container, as far as this machine can try them: what is missing is said
	python3 -m tests.packaging.run
	$(MAKE) test-service

lint: ## formatting, clippy and documentation, warnings refused
	$(CARGO) fmt --all --check
	$(CARGO) clippy --release --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc --release --locked --no-deps --document-private-items

deny: ## licences, bans and sources of dependencies (needs cargo-deny)
	$(CARGO) deny --locked check licenses bans sources

prerequisites: ## install from Debian or Ubuntu what the tests need and this machine lacks
	@tests/stack/prerequisites.sh

stack-up: prerequisites ## start Kafka, the schema registry and the databases, or what of them does not run; print their addresses
	@$(STACK) up

stack-test: prerequisites ## what the tests and people take for granted of the services
	@python3 tests/stack/test_up.py
	@$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" tests/stack/test_postgres.py && "$$PRESSLINE_TEST_CLICKHOUSE_PYTHON" tests/stack/test_front.py'

stack-down: ## stop them
	@$(STACK) down

demo: ## everything in one process, no services
	$(CARGO) run --release --locked -- demo

bench: prerequisites build ## CPU, speed, memory and delay: the relay beside a bare pass-through, the sinks beside \\copy and INSERT FORMAT Native
	$(CARGO) build --release --locked --example bench_peer
	$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" -m tests.bench.bench $(BENCH)'
	$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" -m tests.bench.sinks $(BENCH_SINKS)'

bench-reload: prerequisites build ## GeoIP databases replaced during a stream: nothing lost, pauses, memory; RELOAD="--events 1000000"
	$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" -m tests.bench.reload $(RELOAD)'

bench-outage: prerequisites build ## each database away for ten minutes under 20,000 events/s: memory, the others, catching up; OUTAGE="--seconds 60"
	$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" -m tests.bench.outage $(OUTAGE)'

web-test: prerequisites build ## the button, the map and the statistics in a headless Chromium, and on real services; WEB_ARGS="--screenshots target/web"
	$(MAKE) test-web LIMIT=0

bench-web: build ## the web app under load: 2,000 presses/s, and 500 watchers of 1,000 presses/s; BENCH_WEB="--seconds 60"
	python3 -m tests.web.bench $(BENCH_WEB)

web-recording: build ## docs/images/map.png and map-moving.png, from a demo in a headless Chromium
	python3 -m tests.web.record

bench-cold: prerequisites build ## the relay when every address is new, each from another network
	$(STACK) run -- sh -c '"$$PRESSLINE_TEST_PYTHON" -m tests.bench.cold'

microbench: ## nanoseconds per record: decode, lookup, encode
	$(CARGO) bench --locked

instructions: ## instructions per record: decode, lookup, encode, beside what does the same (needs valgrind)
	python3 -m tests.bench.instructions

profile: prerequisites build ## flame graph of the relay at work, and the share of each stage (needs perf); PROFILE="--sink postgres"
	$(STACK) run -- python3 -m tests.bench.profile $(PROFILE)

clean-stack: stack-down ## stop the services and remove their data
	rm -rf target/stack target/stack-faults
