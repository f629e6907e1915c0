# What one does with this repository. `make` alone says it all again.

GO      ?= go
# bench is a module of its own (go.work joins the two), so that the product names nothing that only bench needs.
PKG     ?= ./... ./bench/...
ARGS    ?=
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The whole suite takes a few minutes with the race detector on two cores; a package that takes ten hangs.
TIMEOUT  ?= 10m
FUZZTIME ?= 10s

# Of make chaos-events and make rolls.
JOURNEYS        ?= 1000
OUTAGE_JOURNEYS ?= 10000
SEED            ?= 1

# Of make rolls: rounds of an update and a roll-back, and gateways of a version.
ROUNDS   ?= 10
GATEWAYS ?= 2

# Of make edge: how long a region is cut off. Over 120 s it stops serving its journeys.
CUT ?= 150s

# Of make histories.
SEEDS ?= 1000

# Of make phones: 24 hours at one point in 5 s.
DAY    ?= 17280
OUTAGE ?= 60s

.DEFAULT_GOAL := help
.PHONY: help test lint openapi web-test fuzz bench bench-load bench-peers web build run demo chaos chaos-events rolls edge phones histories image image-test release lab install clean

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "  With PKG=./geo/... test looks at less. ARGS goes to run, demo, lab and all bench: make demo ARGS='--speed 60',"
	@echo "  make run ARGS='--log-format text', make lab ARGS='-traces DIR'."

test: install ## Run all tests with the race detector, on real servers (installs what is missing)
	DOORSTEP_REQUIRE_SERVERS=1 $(GO) test -race -timeout $(TIMEOUT) $(PKG)

lint: ## Run what CI checks besides the tests: vet, gofumpt, golangci-lint, luacheck, shellcheck, cfn-lint, the tree
	.ci/run vet format lint lua shell templates tree

openapi: ## Lint openapi.yaml and type-check the clients that two generators make from it (npm, Node 20.19 or later)
	.ci/run openapi

web-test: ## Build and test the TypeScript client and the web pages, in Node and in Chromium (npm, Node 20.19 or later)
	.ci/run web

fuzz: ## Fuzz every target for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) .ci/fuzz

bench: install ## Judge every target of docs/performance.md in one run, into bench/out/targets; half an hour (ARGS='-run pace'; see -help)
	cd bench/peers/express && npm ci --silent
	$(GO) run ./bench/targets $(ARGS)

bench-load: install ## Play 1,000 journeys and their students against a gateway (ARGS='-mode flood'; see -help)
	$(GO) run ./bench/load $(ARGS)

bench-peers: install ## Measure Doorstep beside the review's own design and the floor (installs Express by npm)
	cd bench/peers/express && npm ci --silent
	$(GO) run ./bench/peers $(ARGS)

web: ## Build the web pages into web/dist, which the next build puts into the program (npm, Node 20.19 or later)
	cd web && npm ci --no-progress --loglevel=error && npm run --silent build -- --logLevel warn

# The pages once more, where they have changed.
web/dist/t.html: $(wildcard web/*.html web/*.json web/plain/* web/src/* web/client/src/*.ts)
	@$(MAKE) --no-print-directory web

# grpcnotrace: see docs/adr/0007.
build: ## Build bin/gateway, as the image does (cgo: H3 is a C library)
	CGO_ENABLED=1 $(GO) build -tags grpcnotrace -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$(VERSION)" -o bin/gateway ./gateway

run: ## Run the service, embedded: no database, no live store, loopback only
	$(GO) run ./gateway serve $(ARGS)

demo: ## Watch journeys from start to arrival, in the terminal and in a browser (ARGS=--wait waits for the browser)
	@command -v npm >/dev/null && $(MAKE) --no-print-directory web/dist/t.html || echo "the pages are not built: they need npm, Node 20.19 or later; the page without a map is there all the same"
	$(GO) run ./gateway demo $(ARGS)

chaos: install ## Break one thing after another under a real gateway and print what callers saw (ARGS='-short -run store-')
	$(GO) run ./bench/verify/chaos -out bench/out/chaos.md $(ARGS)

chaos-events: install ## Kill everything on an event's way and check that each arrives (JOURNEYS=1000 OUTAGE_JOURNEYS=10000 SEED=1)
	DOORSTEP_REQUIRE_SERVERS=1 $(GO) test -race -count=1 -timeout 30m -v ./bench/verify/chaosevents -run 'TestCheck$$|TestKills|TestOutage' \
		-args -journeys=$(JOURNEYS) -outage-journeys=$(OUTAGE_JOURNEYS) -outage=36s -seed=$(SEED)

rolls: install ## Roll from the last release to this version and back, behind HAProxy, with all faults (ROUNDS=10 JOURNEYS=1000 GATEWAYS=2)
	mkdir -p bench/out
	DOORSTEP_REQUIRE_SERVERS=1 $(GO) test -count=1 -timeout 2h -v ./bench/verify/released -run 'TestRollingUpdate$$' \
		-args -rounds=$(ROUNDS) -journeys=$(JOURNEYS) -gateways=$(GATEWAYS) -fixes=2 -quiet=40s -alb -faults -table=$(CURDIR)/bench/out/rolls.md

edge: install ## Play 300 journeys in three regions with long ways between them, and cut one off (CUT=150s)
	mkdir -p bench/out
	DOORSTEP_REQUIRE_SERVERS=1 $(GO) test -count=1 -timeout 30m -v ./bench/verify/edge -run 'TestRegions$$' \
		-args -journeys=300 -pace=5s -whole=60s -cut=$(CUT) -table=$(CURDIR)/bench/out/edge.md -picture=$(CURDIR)/bench/out/edge.svg

phones: install ## Let models of stock phone apps empty their queues at a built gateway (DAY=17280 OUTAGE=60s)
	mkdir -p bench/out
	DOORSTEP_REQUIRE_SERVERS=1 $(GO) test -count=1 -timeout 60m -v ./bench/verify/phones -run 'TestGateway$$' \
		-args -day=$(DAY) -outage=$(OUTAGE) -table=$(CURDIR)/bench/out/phones.md

histories: ## Play SEEDS days of journeys in virtual time and check every promise (SEEDS=1000)
	$(GO) test -race -count=1 -timeout 60m -v ./bench/verify/histories -run 'TestHistories$$' -args -seeds=$(SEEDS) -within=0

image: ## Build the container image doorstep:VERSION
	docker build --build-arg VERSION=$(VERSION) --tag doorstep:$(VERSION) .

image-test: ## Build the image's last stage on a base made here, boot gateway and worker in it (Debian, Ubuntu; as root; no Docker)
	.ci/image

release: ## Build the files of a release into dist/: binaries, bills of materials, checksums
	.ci/release

lab: ## Measure the plausibility rules on recordings (DOORSTEP_TRACES=folder of CSV files)
	$(GO) run ./bench/plausibility $(ARGS)

install: ## Install the servers and the browser of the tests where they are missing (Debian, Ubuntu)
	@.ci/install

clean: ## Remove what the targets above have made
	rm -rf bin dist bench/out
	find web/dist -mindepth 1 ! -name .gitkeep -delete
	find . -name '*.test' -o -name '*.prof' -o -name '*.out' | xargs -r rm -f
