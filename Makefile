# Everything here does its own set-up: on a bare Debian with Go and make,
# `make demo` and `make test` install what is missing and run.

SHELL := bash
GO    ?= $(shell command -v go || echo /usr/local/go/bin/go)
BIN   := $(CURDIR)/bin

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
VERSITYGW   := github.com/versity/versitygw/cmd/versitygw@v1.8.0
LITESTREAM  := github.com/benbjohnson/litestream/cmd/litestream@v0.5.18

FUZZTIME    ?= 10s
TESTTIMEOUT ?= 25m
TESTFLAGS   ?=
BENCHFLAGS  ?=
PKG         ?= ./...

.PHONY: help build demo test test-large lint bench bench-history fuzz clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/walback, which needs no C compiler
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/walback ./cmd/walback

demo: ## tell the whole story with a local store, in under a minute
	@.ci/need fuse3 sqlite3 iso-codes
	@$(MAKE) --no-print-directory build
	@cmd/walback/demo.sh $(BIN)/walback

test: ## lint, then every test under the race detector, then a summary
	@.ci/need ca-certificates fossil fuse3 gcc libc6-dev rsync sqlite3 sqlite3-tools strace
	@$(MAKE) --no-print-directory lint $(BIN)/versitygw build
	@set -o pipefail; WALBACK_REQUIRE_TOOLS=1 CGO_ENABLED=1 \
		$(GO) test -race -timeout $(TESTTIMEOUT) -json $(TESTFLAGS) $(PKG) | $(GO) run .ci/summary.go

test-large: ## read a row of the past of a database of more than 1 GiB; prints figures
	@.ci/need fuse3 gcc libc6-dev
	@$(MAKE) --no-print-directory $(BIN)/versitygw
	WALBACK_REQUIRE_TOOLS=1 CGO_ENABLED=1 \
		$(GO) test -count 1 -timeout $(TESTTIMEOUT) -run '^TestColdSelect$$' -v ./cmd/walback -cold.size=1100

lint: $(BIN)/staticcheck ## gofmt, no file too long to read, go vet and staticcheck
	@echo "lint: gofmt, length, vet, staticcheck"
	@unformatted=$$("$$($(GO) env GOROOT)/bin/gofmt" -l $$(git ls-files '*.go')); \
		if [ -n "$$unformatted" ]; then echo "gofmt -w these:"; echo "$$unformatted"; exit 1; fi
	@long=$$(git ls-files '*.go' | xargs wc -l | awk '$$2 != "total" && $$1 > 500'); \
		if [ -n "$$long" ]; then echo "split these, of more than 500 lines:"; echo "$$long"; exit 1; fi
	@$(GO) vet ./...
	@$(BIN)/staticcheck ./...

bench: ## measure beside a plain directory and Litestream, into docs/benchmarks.md; BENCHFLAGS=-quick only prints
	@.ci/need ca-certificates fuse3 gcc libc6-dev
	@$(MAKE) --no-print-directory build $(BIN)/versitygw
	@$(MAKE) --no-print-directory $(BIN)/litestream || echo "bench: Litestream could not be installed: its column is left out"
	@CGO_ENABLED=1 $(GO) build -o $(BIN)/walback-bench ./cmd/walback-bench
	@$(BIN)/walback-bench -o docs/benchmarks.md $(BENCHFLAGS)

bench-history: ## measure what a month of history costs, into docs/benchmarks.md; BENCHFLAGS="-size 10GB -transactions 1000000 -scans 3 -restores 2 -limit 1h -in DIR" takes an hour and 45 GB
	@.ci/need ca-certificates fuse3 gcc libc6-dev
	@$(MAKE) --no-print-directory build $(BIN)/versitygw
	@CGO_ENABLED=1 $(GO) build -o $(BIN) ./cmd/walback-bench ./cmd/walback-generate
	@$(BIN)/walback-bench history -o docs/benchmarks.md $(BENCHFLAGS)

fuzz: ## run every fuzz target for FUZZTIME (10s)
	@set -e; for pkg in $$($(GO) list $(PKG)); do \
		for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "fuzz: $$pkg $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$pkg; \
		done; \
	done

clean: ## remove bin
	rm -rf $(BIN)

$(BIN)/staticcheck: Makefile
	@echo "installing $(STATICCHECK)"
	@GOBIN=$(BIN) $(GO) install $(STATICCHECK) && touch $@

$(BIN)/versitygw: Makefile
	@echo "installing $(VERSITYGW)"
	@GOBIN=$(BIN) CGO_ENABLED=0 $(GO) install $(VERSITYGW) && touch $@

$(BIN)/litestream: Makefile
	@echo "installing $(LITESTREAM)"
	@GOBIN=$(BIN) CGO_ENABLED=0 $(GO) install $(LITESTREAM) && touch $@
