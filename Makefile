# The commands of a newcomer do their own set-up: make demo, make stack, make test.
.PHONY: help demo stack test test-engines setup-demo setup-stack setup-test lint format check

ARGS ?=
CONFIG ?= opensips/sample.yml
bin := .venv/bin

help:
	@echo "make demo    a caller dials 1000 and talks to the offline flavor    (ARGS='--seed 3 --json')"
	@echo "make stack   OpenSIPS, rtpengine and a connector, here and without containers; call sip:1000@127.0.0.1"
	@echo "make test    everything: style, types, import rule, all tests       (ARGS='tests/unit -k jitter')"
	@echo "make test-engines    vLLM, faster-whisper and Chatterbox, real, on the CPU, and a call through all three"
	@echo "make lint    style, types and import rule only"
	@echo "make format  put the style right"
	@echo "make check   lint, and the tests that do not take long"

setup-demo:
	@scripts/setup offline phone

setup-stack:
	@scripts/setup --stack offline

setup-test:
	@scripts/setup dev phone

demo: setup-demo
	@$(bin)/voxtrunk demo $(ARGS)

stack: setup-stack
	@$(bin)/voxtrunk stack up -c $(CONFIG) $(ARGS)

lint: setup-test
	$(bin)/ruff check
	$(bin)/ruff format --check
	$(bin)/mypy
	$(bin)/lint-imports

test: lint
	$(bin)/pytest $(ARGS)

test-engines: setup-test
	@scripts/test-engines $(ARGS)

format: setup-test
	$(bin)/ruff check --fix
	$(bin)/ruff format

check: lint
	$(bin)/pytest -m "not slow" $(ARGS)
