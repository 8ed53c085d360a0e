# Spanwise. `make help` lists what there is. Every target sets up what it needs, can be repeated, and works offline
# once warm. Build output lives outside the checkout, so that a fresh clone builds warm.

export CARGO_TARGET_DIR ?= $(if $(XDG_CACHE_HOME),$(XDG_CACHE_HOME),$(HOME)/.cache)/spanwise/target
CARGO ?= cargo
DEMO_ARGS ?=

.PHONY: help test demo build bench bench-micro bench-search bench-overview truth fmt lint ui browser screenshots record crash fuzz package clean

help: ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

test: ## everything that continuous integration checks
	@scripts/test.sh

demo: ## build, start, send real traffic, print the address of the page
	@scripts/demo.sh $(DEMO_ARGS)

build: ui ## the optimised program with the page inside; prints its path
	@$(CARGO) build --release -p spanwise
	@echo "$(CARGO_TARGET_DIR)/release/spanwise"

bench: ## beside the Go collector, and the store: the measurements of docs/benchmarks.md
	@bench/run.py all
	@scripts/bench.sh

bench-micro: ## instructions per span of the hot paths
	@bench/micro.py

bench-search: ## search and by-id times over ten million stored spans; PROFILE=ci, SPANS=...
	@profile=$${PROFILE:-ci}; $(CARGO) build --quiet --profile $$profile -p spanwise && \
		python3 bench/search.py "$(CARGO_TARGET_DIR)/$$profile/spanwise"

bench-overview: ## lists of services, map, an entry point and insights over ten million stored spans; PROFILE=ci, SPANS=...
	@profile=$${PROFILE:-ci}; $(CARGO) build --quiet --profile $$profile -p spanwise && \
		python3 bench/overview.py "$(CARGO_TARGET_DIR)/$$profile/spanwise"

truth: ## how true the findings are, in worlds whose truth is known; TRUTH_ARGS='5 100 --show' for seeds 100 to 104
	@CARGO_PROFILE_CI_OPT_LEVEL=2 $(CARGO) run --quiet --profile ci -p spanwise-sim --bin truth -- $(TRUTH_ARGS)

record: ## record the shop, ill and healthy, anew: what the tests of insight expect their findings of
	@scripts/record.sh

crash: ## five hundred rounds of load, kill -9, restart, compare
	@SPANWISE_CRASH_CYCLES=500 $(CARGO) test --profile ci -p spanwise --test it crash -- --nocapture

fuzz: ## every fuzz target for twenty seconds (nightly compiler); FUZZ_SECONDS=n for longer
	@scripts/fuzz.sh $(FUZZ_SECONDS)

package: ## what crates.io would get of spanwise-propagate and spanwise-sdk, built from that alone; asks the registry
	@$(CARGO) publish --dry-run --allow-dirty -p spanwise-propagate -p spanwise-sdk

fmt: ## format all sources
	@$(CARGO) fmt --all

lint: ## formatting and clippy
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --profile ci --workspace --all-targets -- -D warnings

browser: ui ## the page's flows in a real browser
	@$(CARGO) build --profile ci -p spanwise
	@scripts/browser.sh

screenshots: ui ## take the pictures of docs/screenshots anew
	@$(CARGO) build --profile ci -p spanwise
	@PICTURES=../docs/screenshots scripts/browser.sh

ui: ## build the page into ui/dist
	@scripts/ui.sh

clean: ## remove what was built inside the checkout
	@rm -rf ui/dist ui/node_modules .venv
