# The one door: `make` lists what there is. CI and people use the same targets.
#
# Everything lives in .venv, built from the hash-pinned lists in tests/lock/. A stamp file in it
# remembers which list was installed last, so a second `make` starts at once. `make -j` is fine.

PYTHON ?= python3
PYTEST_ARGS ?=
# host:port of a mail server to relay to, instead of the Maildir of config/quickstart.yaml.
BACKEND ?=
# `make lock UPGRADE=1` moves every pin to the newest version; without it, only what must move.
UPGRADE ?=

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
LOCK := tests/lock
PIP := $(BIN)/python -m pip -qq --disable-pip-version-check
QUICK := tests/unit tests/contract tests/protocol tests/tidy
# What only computes runs on all cores; so do stories that mostly wait, file by file. What measures
# runs by itself, after all others.
PARALLEL := $(QUICK) tests/simulation tests/support tests/fuzz
STORIES := tests/e2e tests/fault tests/interop
MEASURED := tests/e2e/test_overload.py tests/e2e/test_large_messages.py tests/fault/test_flapping.py tests/bench

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: $(VENV)/.runtime ## Start the daemon here; BACKEND=host:port relays to a real mail server
	@printf '%s\n' \
	  'mailshed starts in the foreground; Ctrl-C stops it. Then, in a second terminal, try:' \
	  '' \
	  '  swaks --server 127.0.0.1:2525 --from ward@lab.hospital.example --to doctor@hospital.example' \
	  "  printf 'Subject: hello\\n\\nIt works.\\n' | curl -sS --crlf -T - smtp://127.0.0.1:2525 \\" \
	  '       --mail-from ward@lab.hospital.example --mail-rcpt doctor@hospital.example' \
	  '  curl -s http://127.0.0.1:9825/metrics' \
	  '  $(BIN)/mailshed status --config config/quickstart.yaml' \
	  '' \
	  '(apt-get install swaks curl, if they are missing)' \
	  ''
	@exec $(BIN)/mailshed serve --config config/quickstart.yaml $(if $(BACKEND),--backend '$(BACKEND)')

.PHONY: test
test: $(VENV)/.dev ## Install what the tests need (as root on Debian; else say what) and run them all
	$(BIN)/python -m tests.support.debian
ifeq ($(strip $(PYTEST_ARGS)),)
	$(BIN)/python -m pytest -n auto $(PARALLEL)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(STORIES) $(MEASURED:%=--ignore=%)
	$(BIN)/python -m pytest $(MEASURED)
else
	$(BIN)/python -m pytest $(PYTEST_ARGS)
endif

# The long proofs, on top of what `make test` does: docs/durability.md says what they show.
# `make test-kill N=1000 SEED=7`: so many kills, at other moments.
ATTACKS = tests/protocol/attacks tests/contract/test_queue_injection.py tests/protocol/test_state_machine.py \
	tests/protocol/test_outbound_wire.py tests/tidy/test_regular_expressions.py \
	tests/fault/test_endless_input.py tests/e2e/test_smuggling.py tests/e2e/test_open_relay.py
LONG = $(BIN)/python -m pytest -q -s -o faulthandler_timeout=0 $(PYTEST_ARGS)

.PHONY: test-kill
test-kill: $(VENV)/.dev ## Kill the daemon N times under load (30; about three seconds each)
	$(BIN)/python -m tests.support.debian
	MAILSHED_TEST_KILLS=$(or $(N),30) MAILSHED_TEST_SEED=$(or $(SEED),1) $(LONG) tests/fault/test_kill.py

.PHONY: test-flapping
test-flapping: $(VENV)/.dev ## Two minutes of a mail server that comes and goes every second
	$(BIN)/python -m tests.support.debian
	MAILSHED_TEST_FLAP_SECONDS=120 $(LONG) tests/fault/test_flapping.py

.PHONY: test-attacks
test-attacks: $(VENV)/.dev ## Try the attacks of the tests N (25) times as hard; docs/security.md has them
	$(BIN)/python -m tests.support.debian
	MAILSHED_TEST_ATTACKS=$(or $(N),25) $(LONG) $(ATTACKS)

.PHONY: test-differential
test-differential: $(VENV)/.dev ## Hold N (2000) made sessions with our engine and with the libraries' own
	MAILSHED_TEST_DIFFERENTIAL=$(or $(N),2000) $(BIN)/python -m pytest -n auto tests/protocol/differential $(PYTEST_ARGS)

.PHONY: test-planted
test-planted: $(VENV)/.dev ## Plant faults in a copy; each must turn its test red
	$(BIN)/python -m tests.support.debian
	$(BIN)/python -m tests.fault.planted

.PHONY: fuzz
fuzz: $(VENV)/.dev ## Search each parser for SECONDS (60) for what breaks it (x86-64)
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60)

.PHONY: test-third-party
test-third-party: $(VENV)/.dev ## Let nmap, testssl.sh, sslscan, swaks and aiosmtpd's tests at it
	$(BIN)/python -m tests.third_party

.PHONY: test-interop
test-interop: $(VENV)/.dev ## Ten clients, five mail servers: writes docs/interoperability.md (root)
	$(BIN)/python -m tests.support.debian
	$(BIN)/python -m tests.interop

.PHONY: check format lint types layers quick
check: format lint types layers quick ## Format, lint, types, layers and the quick tests; before every commit

format: $(VENV)/.dev
	$(BIN)/ruff format --check

lint: $(VENV)/.dev
	$(BIN)/ruff check

types: $(VENV)/.dev
	$(BIN)/python -m mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

quick: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto $(QUICK) $(PYTEST_ARGS)

.PHONY: fix
fix: $(VENV)/.dev ## Repair formatting and what the linter can repair by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: docs
docs: $(VENV)/.runtime ## Write the generated references: docs/configuration.md, docs/metrics.md
	$(BIN)/mailshed config reference > docs/configuration.md
	$(BIN)/python -m mailshed.metrics > docs/metrics.md

.PHONY: test-power-cut
test-power-cut: $(VENV)/.dev ## Cut the power N (3000) times while the spool writes; needs gcc
	MAILSHED_TEST_POWER_CUTS=$(or $(N),3000) $(BIN)/python -m pytest tests/fault/test_power_cut.py $(PYTEST_ARGS)

.PHONY: bench
bench: $(VENV)/.dev ## Measure throughput beside six others; a quarter of an hour (root, npm, gcc)
	$(BIN)/python -m tests.bench

.PHONY: bench-profile
bench-profile: $(VENV)/.dev ## Measure what a message's CPU time is made of (root, linux-perf, gcc)
	$(BIN)/python -m tests.bench.profile

.PHONY: bench-queue
bench-queue: $(VENV)/.dev ## Measure a queue of 1,000,000 messages and durable acknowledgements
	$(BIN)/python -m tests.bench.queue

.PHONY: bench-engines
bench-engines: $(VENV)/.dev ## Measure what our engine gains over the libraries' own classes (needs gcc)
	$(BIN)/python -m tests.bench.engines
	$(BIN)/python -m tests.bench.overrides

.PHONY: bench-slow-sessions
bench-slow-sessions: $(VENV)/.dev ## Measure 10,000 slow sessions and floods of connections (needs gcc)
	$(BIN)/python -m tests.bench.slow_sessions

.PHONY: bench-process
bench-process: $(VENV)/.dev ## Measure memory of one process and turns of its event loop (needs gcc)
	$(BIN)/python -m tests.bench.process

.PHONY: bench-overload bench-overload-quick
bench-overload: $(VENV)/.dev ## Measure three times too much mail beside Postfix and Haraka (root, npm, gcc)
	$(BIN)/python -m tests.bench.overload

bench-overload-quick: $(VENV)/.dev ## The same in two minutes, for development
	$(BIN)/python -m tests.bench.overload --quick

.PHONY: simulate
simulate: $(VENV)/.dev ## Compare the limit with others on SEEDS (20) seeds; writes docs/simulation/
	$(BIN)/python -m tests.simulation.compare --seeds $(or $(SEEDS),20) --record

.PHONY: lock
lock: $(VENV)/.dev ## Renew tests/lock/ from pyproject.toml; UPGRADE=1 takes the newest versions
	$(PIP) install uv
	$(COMPILE) --extra dev --group build -o $(LOCK)/dev.txt
	$(COMPILE) --constraint $(LOCK)/dev.txt -o $(LOCK)/runtime.txt
	$(BIN)/uv pip compile $(COMPILE_FLAGS) --constraint $(LOCK)/dev.txt --group build -o $(LOCK)/build.txt

# One resolution for every Python from 3.11 on (markers say what differs), wheels and sources alike.
COMPILE_FLAGS = --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' $(if $(UPGRADE),--upgrade)
COMPILE = $(BIN)/uv pip compile $(COMPILE_FLAGS) pyproject.toml

.PHONY: clean
clean: ## Remove .venv and caches; ./var, which may hold mail, stays
	rm -rf $(VENV) build dist .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find mailshed tests -name __pycache__ -type d -prune -exec rm -rf {} +

# The environment, in three steps: empty, able to run, able to develop.

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { echo 'mailshed needs Python 3.11 or newer: apt-get install python3 python3-venv' >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "mailshed needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'python3-venv is missing and is installed now' >&2; \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends python3-venv >/dev/null; \
	  else \
	    echo 'python3-venv is missing; install it with: apt-get install python3-venv' >&2; exit 1; \
	  fi; }
	@echo 'Preparing $(VENV)' >&2
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.runtime: $(VENV)/.created pyproject.toml $(LOCK)/runtime.txt $(LOCK)/build.txt
	@$(PIP) install --require-hashes --no-deps -r $(LOCK)/runtime.txt -r $(LOCK)/build.txt
	@$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.runtime $(LOCK)/dev.txt
	@$(PIP) install --require-hashes --no-deps -r $(LOCK)/dev.txt
	@touch $@
