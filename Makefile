# Two commands: `make demo` (train, segment and score the embedded images) and `make test`.
# Both make the environment .venv first, where it is not there or older than requirements.txt.
#
#   PYTHON       the interpreter .venv is made with (3.11 or later)
#   TORCH=cpu    no CUDA packages (default); TORCH=gpu takes the registry's newest CUDA build
#   TORCH_FLAGS  more options for pip when it installs torch: see docs/install.md

PYTHON ?= python3
TORCH ?= cpu
TORCH_FLAGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
STAMP := $(VENV)/installed
TORCH_PIN := $(shell sed -n 's/^torch==//p' requirements.txt)
UV_PIN := 0.13.8

.DEFAULT_GOAL := help
.PHONY: help demo test check bench docs clean

help:
	@echo "make demo    train, segment and score the embedded images (about 5 minutes)"
	@echo "make test    run the tests"
	@echo "make check   ruff and mypy"
	@echo "make bench   benchmarks of assembly, prediction and matching"
	@echo "make docs    write docs/config.md from the code"
	@echo "make clean   delete .venv and caches; experiments are kept"

demo: $(STAMP)
	$(BIN)/python run_ppp.py --setup setup01 --config default.toml --do all

# One thread for each of the two processes: threads of both would wait for each other's cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)
	$(BIN)/python -m pytest -q benchmarks/bench_*.py --benchmark-only

docs: $(STAMP)
	$(BIN)/python -m instaseg.config.describe

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis .benchmarks

# torch first: any later package that asks for torch then finds it, and brings no CUDA packages.
$(STAMP): requirements.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "instaseg needs Python 3.11 or later; '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1)."; \
	  echo "Name another one: make $(or $(MAKECMDGOALS),test) PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv"; \
	  rm -rf $(VENV); exit 1; }
	@echo "installing into $(VENV) (once; some minutes)"
	@$(BIN)/python -c 'from importlib.metadata import version; \
	  assert version("torch").split("+")[0] == "$(TORCH_PIN)"' 2>/dev/null || $(MAKE) --no-print-directory torch-$(TORCH)
	$(PIP) install -r requirements.txt
	$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: torch-cpu torch-gpu

torch-gpu:
	$(PIP) install $(TORCH_FLAGS) torch==$(TORCH_PIN)

# The version "+cpu" exists only as a build without CUDA, so this never takes another one. Where
# pip's sources have none, uv knows where PyTorch publishes them. Outside Linux on x86-64 the plain
# build has no CUDA.
torch-cpu:
	@$(PIP) install $(TORCH_FLAGS) torch==$(TORCH_PIN)+cpu 2>/dev/null \
	|| if [ "$$(uname -sm)" = "Linux x86_64" ]; then \
	  $(PIP) install uv==$(UV_PIN) && $(BIN)/uv pip install --quiet --python $(BIN)/python \
	    --torch-backend cpu torch==$(TORCH_PIN); \
	else $(PIP) install torch==$(TORCH_PIN); fi \
	|| { echo "No build of torch $(TORCH_PIN) without CUDA could be installed for this Python."; \
	     echo "docs/install.md tells what to do; with an NVIDIA GPU: make TORCH=gpu"; exit 1; }
