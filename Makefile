# Every target works on a machine that has only Python 3.11, git and make.
# PYTHON=python3.12 make ... chooses another interpreter, WORKERS=8 make test more processes.

PYTHON ?= python3
BIN := .venv/bin
RUNTIME_BIN := .venv-runtime/bin
CLIENTS_BIN := .venv-clients/bin
RAY_BIN := .venv-ray/bin
DEMO := build/demo
WORKERS ?= 2
# The tests of a file stay together, since they share what is made for them; files in their order,
# since the longest come first.
PARALLEL := -n $(WORKERS) --dist loadfile --no-loadscope-reorder

CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

.PHONY: demo quick test check sanitize kernels-aarch64 runtime-aarch64 bench air-test tokens-test \
  matrix passkey clients-test page-test pack-test ray-test runtime-alone sizes clean

# Installs everything into .venv and builds the kernels; runs again only when the project's metadata
# or the kernels change.
.venv/installed: pyproject.toml hatch_build.py runtime/kernels/build.py $(wildcard runtime/kernels/native/*)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

# A checkpoint in miniature -> export -> compile -> verify -> generate -> bench, on this CPU.
demo: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh benchmarks/demo.sh $(DEMO)

# Tests that train, export and compile nothing: under a minute on 2 cores.
quick: .venv/installed
	$(BIN)/pytest $(PARALLEL) -m "not slow"

# Every test: about 17 minutes on 2 cores.
test: .venv/installed
	$(BIN)/pytest $(PARALLEL)

# What a change must pass besides the suite.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The tests of the kernels with a library that stops at the first wrong address or undefined
# operation. Takes GCC, whose address sanitizer can be loaded before Python.
SANITIZED := build/libkernels_sanitized.so
sanitize: .venv/installed
	mkdir -p build
	$(BIN)/python -m runtime.kernels.build --sanitize -o $(SANITIZED)
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libstdc++.so)" \
	  ASAN_OPTIONS=detect_leaks=0 \
	  PYTHONMALLOC=malloc KERNELS_LIBRARY=$(SANITIZED) $(BIN)/pytest \
	  tests/runtime/kernels tests/toolchain/targets/cpu/test_tiles.py \
	  tests/toolchain/targets/cpu/test_cached_attention.py

# The library for aarch64, compiled by ziglang, and its instruction sets under QEMU against this
# machine's. Takes qemu-user: `apt-get install qemu-user-static`, or QEMU_AARCH64=/a/qemu-aarch64.
QEMU_AARCH64 ?= $(shell command -v qemu-aarch64 || command -v qemu-aarch64-static)
kernels-aarch64: .venv/installed
	@test -n "$(QEMU_AARCH64)" || { echo "no qemu-aarch64 here: install qemu-user, or give QEMU_AARCH64=PATH"; exit 1; }
	$(BIN)/pip install --quiet 'ziglang==0.17.1'
	mkdir -p build
	$(BIN)/python -m runtime.kernels.build --machine aarch64 -o build/libkernels_aarch64.so
	QEMU_AARCH64="$(QEMU_AARCH64)" $(BIN)/pytest tests/runtime/kernels/test_aarch64.py

# Timings of the demo's bundle; see benchmarks/.
bench: demo
	$(BIN)/toolchain bench $(DEMO)/int4

# The runtime as a box installs it: base, cpu, serve, constrain and hf, nothing else. It runs its own
# tests and the commands of a box on bundles that the full environment made.
runtime-alone: .venv/installed
	$(PYTHON) -m venv --clear --without-pip .venv-runtime
	$(BIN)/pip --python $(RUNTIME_BIN)/python install --quiet '.[constrain,cpu,hf,serve]'
	$(BIN)/pip --python $(RUNTIME_BIN)/python install --quiet pytest pytest-xdist hypothesis jsonschema pexpect openai schemathesis
	$(BIN)/python -m tests.bundles build/test-bundles
	$(RUNTIME_BIN)/runtime generate build/test-bundles/talk-int4 "What is an edge box?"
	TEST_BUNDLES=build/test-bundles $(RUNTIME_BIN)/pytest $(PARALLEL) tests/runtime tests/box

# The runtime as a box of aarch64 installs it, emulated by QEMU: the tokens of this machine, and its
# own tests. Takes Debian 12 or later with qemu-user-static, and Linux 6.7 or later; loads 150 MB once.
# Writes the tables of docs/benchmarks.md.
QEMU_STATIC ?= $(shell command -v qemu-aarch64-static)
runtime-aarch64: .venv/installed
	@test -n "$(QEMU_STATIC)" || { echo "no qemu-aarch64-static here: install qemu-user-static, or give QEMU_STATIC=PATH"; exit 1; }
	$(BIN)/python -m tests.bundles build/test-bundles
	QEMU_AARCH64="$(QEMU_STATIC)" WORKERS=$(WORKERS) \
	  $(BIN)/python -m tests.aarch64 build/aarch64 build/test-bundles docs/benchmarks.md

# The chat page in a real browser, which must be there: CHROMIUM=/a/browser make page-test.
page-test: .venv/installed
	@test -n "$(CHROMIUM)" || { echo "no Chromium here: install one, or give CHROMIUM=PATH"; exit 1; }
	$(BIN)/pip install --quiet --editable '.[page]'
	$(BIN)/python -m tests.bundles build/test-bundles
	CHROMIUM="$(CHROMIUM)" TEST_BUNDLES=build/test-bundles $(BIN)/pytest tests/runtime/server/page

# Signed packs for this machine, installed and asked over HTTP where there is no network: about two
# minutes. Takes root or user namespaces; BOX_PYTHON=/usr/bin/python3.11 for another Python.
pack-test: .venv/installed
	$(BIN)/python -m tests.bundles build/test-bundles
	$(BIN)/python benchmarks/offline_box.py build/test-bundles/talk-int4 \
	  build/test-bundles/talk-int8 build/offline-box

# Huawei's torchair in the wheel of torch_npu, unzipped and never installed: 44 MB to load, 126 MB
# on the disk. Its parts in Python are the same for every CPU.
TORCHAIR := build/torchair
$(TORCHAIR)/unzipped: export/air/wheel.txt | .venv/installed
	rm -rf $(TORCHAIR) build/torchair.whl
	$(BIN)/pip download --quiet --no-deps --require-hashes --only-binary=:all: --python-version 3.11 \
	  --platform manylinux_2_28_x86_64 --requirement $< --dest build/torchair.whl
	$(BIN)/python -m zipfile -e build/torchair.whl/*.whl $(TORCHAIR)
	rm -r build/torchair.whl
	touch $@

# What torchair makes of our programs, and what that computes: two minutes.
air-test: .venv/installed $(TORCHAIR)/unzipped
	$(BIN)/python -m tests.bundles build/test-bundles
	TORCHAIR_HOME=$(CURDIR)/$(TORCHAIR) TEST_BUNDLES=build/test-bundles $(BIN)/pytest \
	  $(PARALLEL) tests/export/air tests/ascend/test_air.py

# Greedy tokens of every way to run a model, beside float32; writes the tables of docs/tokens.md.
tokens-test: .venv/installed $(TORCHAIR)/unzipped
	TORCHAIR_HOME=$(CURDIR)/$(TORCHAIR) $(BIN)/python -m tests.acceptance docs/tokens.md

# Every architecture on every way to run it, beside transformers; writes the table of docs/models.md.
matrix: .venv/installed $(TORCHAIR)/unzipped
	TORCHAIR_HOME=$(CURDIR)/$(TORCHAIR) $(BIN)/python -m tests.acceptance.matrix docs/models.md

# A number hidden anywhere in 8,192 tokens, by every way to run a model; the emulator takes long.
passkey: .venv/installed $(TORCHAIR)/unzipped
	TORCHAIR_HOME=$(CURDIR)/$(TORCHAIR) PASSKEY=8192 $(BIN)/pytest tests/acceptance/test_passkey.py

# Clients that bring much of their own: 115 packages, 700 MB, no torch.
.venv-clients/installed: tests/clients/requirements.txt
	$(PYTHON) -m venv --clear --without-pip .venv-clients
	$(BIN)/pip --python $(CLIENTS_BIN)/python install --quiet --no-compile --requirement $<
	touch $@

# lm-evaluation-harness, LangChain, llama-index and the requests of vLLM's benchmark at the real
# server: under a minute, without a network.
clients-test: .venv/installed .venv-clients/installed
	$(BIN)/python -m tests.bundles build/test-bundles
	SERVER_BIN=$(BIN) TEST_BUNDLES=build/test-bundles HF_HUB_OFFLINE=1 \
	  $(CLIENTS_BIN)/pytest -W ignore tests/clients

.venv-ray/installed: pyproject.toml
	$(PYTHON) -m venv --clear --without-pip .venv-ray
	$(BIN)/pip --python $(RAY_BIN)/python install --quiet --editable '.[constrain,cpu,hf,ray,remote]'
	$(BIN)/pip --python $(RAY_BIN)/python install --quiet pytest hypothesis jsonschema openai pexpect
	touch $@

# Batches, exams and servers on a Ray cluster of several raylets on this machine: five minutes.
# KILLS=30 make ray-test kills a batch more often.
ray-test: .venv/installed .venv-ray/installed
	$(BIN)/python -m tests.bundles build/test-bundles
	TEST_BUNDLES=build/test-bundles $(RAY_BIN)/pytest -W ignore tests/cluster

# Megabytes of each kind of install, in an environment of its own.
sizes: .venv/installed
	@for extra in "" "[cpu]" "[serve]" "[cpu,serve]" "[compile]" "[cpu,compile]" "[report]"; do \
	  $(PYTHON) -m venv --clear --without-pip .venv-runtime && \
	  $(BIN)/pip --python $(RUNTIME_BIN)/python install --quiet ".$$extra" && \
	  printf '%-15s %4s MB\n' "base$$extra" "$$(du -sm --apparent-size .venv-runtime | cut -f1)"; \
	done

clean:
	rm -rf build dist .venv .venv-clients .venv-ray .venv-runtime runtime/kernels/*.so
