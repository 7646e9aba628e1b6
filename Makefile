# The ways to use a checkout. Every target sets up .venv first where it is missing or stale;
# a second run spends no time on it.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
TESTS ?= tests
# What the tests need from the system, as Debian packages. As root `make test` installs them once,
# with `make deps`; tests of what is not there are skipped, and say so.
SYSTEM_PACKAGES := gsasl sasl2-bin libsasl2-modules zookeeper docker.io runc crun busybox-static iproute2 skopeo umoci libseccomp2

PROTOS := $(shell find protocols -name '*.proto' 2>/dev/null)
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
SYSTEM := $(VENV)/.system

# Where clients that others wrote are installed, for tests.interop.
INTEROP := .venv-interop

.PHONY: interop help demo ha-demo certs test lint types trial soak explore bench deps setup format clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo     run the example framework on a cluster of its own'
	@echo 'make ha-demo  kill the leading master of three, and see tasks run through it'
	@echo 'make test     everything a change must pass: lint, types, tests'
	@echo 'make trial    the tests alone; TESTS=tests.messages for some of them'
	@echo 'make lint     ruff; make format lets it rewrite'
	@echo 'make types    mypy'
	@echo 'make soak     faults of all kinds for a quarter of an hour, and nothing may be lost'
	@echo 'make explore  tests of properties with examples that nobody has tried yet'
	@echo 'make bench    the measurements that the documents quote'
	@echo 'make certs    a CA, a server'"'"'s and a client'"'"'s certificate in ./certs, for trying TLS out'
	@echo 'make deps     as root: install what the tests need from the system'
	@echo 'make clean    remove what all of these leave behind'

setup: $(COMPILED)

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "mesoskit needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1`."; \
	  echo "Name another with: make PYTHON=/path/to/python3.11"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot create virtual environments: its venv module is missing."; \
	  echo "On Debian or Ubuntu: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(VENV)/.created pyproject.toml setup.py
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,examples]'
	@touch $@

$(COMPILED): $(INSTALLED) $(PROTOS)
	$(BIN)/python setup.py --quiet build_messages
	@touch $@

demo: $(COMPILED)
	$(BIN)/python examples/images/demo.py

# HOSTS: further names and addresses of the server.
certs: $(COMPILED)
	@$(BIN)/python -m mesoskit.testing.certificates certs $(HOSTS)

ha-demo: $(COMPILED)
	$(BIN)/python examples/high_availability/demo.py

test: lint types interop trial

interop: $(COMPILED)
	$(BIN)/python tests/interop/install.py $(INTEROP)

lint: $(COMPILED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(COMPILED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(COMPILED)
	$(BIN)/mypy

$(SYSTEM): $(COMPILED) Makefile
	@[ `id -u` -ne 0 ] || $(MAKE) --no-print-directory deps || echo 'Going on without.'
	@touch $@

# A coroutine that nobody awaited is an error, not a remark.
trial: $(COMPILED) $(SYSTEM)
	PYTHONWARNINGS=error::RuntimeWarning $(BIN)/python -m twisted.trial -j$(JOBS) $(TESTS)

# SOAK: --seed=N, --faults=N and others; see `python -m tests.soak --help`.
soak: $(COMPILED) $(SYSTEM)
	$(BIN)/python -m tests.soak $(SOAK)
	MESOSKIT_SOAK=8 $(MAKE) --no-print-directory explore

# `make test` judges a change by the same examples every time; this looks for new ones. A failure
# prints the line with which to have it again. ROUNDS: how often, each with examples of its own;
# MESOSKIT_SOAK=8 in the environment: eight times as many for the machines of the states.
ROUNDS ?= 1
explore: $(COMPILED) $(SYSTEM)
	@for round in `seq $(ROUNDS)`; do HYPOTHESIS_PROFILE=explore $(BIN)/python -m twisted.trial -j$(JOBS) \
	  $$(grep -rl '^from hypothesis' tests --include='test_*.py') || exit 1; done

bench: $(COMPILED)
	@for file in $$(grep -l __main__ benchmarks/*.py); do echo "== $$file"; $(BIN)/python $$file || exit 1; done

deps:
	@missing=; for name in $(SYSTEM_PACKAGES); do \
	  dpkg -s $$name >/dev/null 2>&1 || missing="$$missing $$name"; done; \
	$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || missing="$$missing python3-venv"; \
	[ -n "$$missing" ] || exit 0; \
	command -v apt-get >/dev/null || { echo "Please install:$$missing"; exit 1; }; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get install --yes --no-install-recommends $$missing || { \
	  apt-get update && apt-get install --yes --no-install-recommends $$missing; }

clean:
	rm -rf demo-pictures certs $(VENV) $(INTEROP) $(INTEROP).lock build dist *.egg-info _trial_temp* .hypothesis .mypy_cache .ruff_cache
	rm -f twisted/plugins/dropin.cache mesoskit/messages/*_pb2.py mesoskit/messages/*_pb2.pyi
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
