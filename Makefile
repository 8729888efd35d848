# Raysum: the front door. `make help` lists the targets.
#
#   make sirt     installs, builds and reconstructs: figures in out/sirt
#   make test     installs, builds and runs every test

CC ?= cc
NODE_MODULES := node_modules/.package-lock.json
BIN := node_modules/.bin
BUN := $(BIN)/bun
TFJS := node_modules/@tensorflow/tfjs-core/package.json
NODE_FFI := node_modules/.cache/node/node_modules/.bin/node

WARNINGS := -Wall -Wextra -Werror
CFLAGS ?= -O3 -g
ALL_CFLAGS := -std=c11 $(CFLAGS) -fPIC -fvisibility=hidden $(WARNINGS) $(EXTRA_CFLAGS)
LDLIBS := -lm -lpthread

# Every file with vector kernels is compiled once a target; csrc/dispatch.c picks one at load.
KERNELS := slice stack upright general astra convolve product
ifeq ($(shell $(CC) -dumpmachine | cut -d- -f1),x86_64)
TARGETS := avx512 avx2 plain
else
TARGETS := plain
endif
FLAGS_avx512 := -mavx512f -mavx512dq -mavx512bw -mavx512vl -mfma -mprefer-vector-width=512
FLAGS_avx2 := -mavx2 -mfma
FLAGS_plain :=

BUILD ?= build
TFJS_SPECS := $(BUILD)/tfjs_specs.cjs
SOURCES := $(filter-out $(KERNELS:%=csrc/%.c),$(wildcard csrc/*.c))
KERNEL_BUILD ?= $(BUILD)
OBJECTS := $(SOURCES:csrc/%.c=$(BUILD)/%.o) $(foreach t,$(TARGETS),$(KERNELS:%=$(KERNEL_BUILD)/%_$(t).o))
CPU_LIBRARY := $(BUILD)/libraysum.so

# The CUDA library: the objects of the CPU library and those of csrc/cuda, cudart linked statically.
NVCC ?= nvcc
CUDA_ARCH ?= sm_90
CUDA_FLAGS ?= -O3
CUDA_SOURCES := $(wildcard csrc/cuda/*.cu)
CUDA_OBJECTS := $(CUDA_SOURCES:csrc/cuda/%.cu=$(BUILD)/cuda/%.o)
CUDA_LIBRARY := $(BUILD)/libraysum_cuda.so

# What is handed out: for every device that nvcc knows (-arch=all), and as PTX for those to come; DIST_ARCH=all-major is half the size.
DIST := $(BUILD)/dist
DIST_ARCH ?= all

# The emulated library, for tests without a GPU: the same objects and sources, the kernels compiled by $(CXX) for the CPU.
CXX ?= c++
EMULATION := csrc/cuda/emulation
EMULATED_FLAGS := -std=c++17 $(CFLAGS) -fPIC -fvisibility=hidden -ffp-contract=fast $(WARNINGS) -Wno-unknown-pragmas -Wno-sign-compare -DRS_EMULATION -I$(EMULATION) $(EXTRA_CFLAGS)
EMULATED_OBJECTS := $(patsubst csrc/cuda/%,$(BUILD)/emulated/%.o,$(CUDA_SOURCES) $(wildcard $(EMULATION)/*.cc))
EMULATED_LIBRARY := $(BUILD)/libraysum_emulated.so

.PHONY: all help found cpu cuda dist bundle test-gpu emulated sirt test test-reference sanitize test-address test-bounds test-thread fuzz check format symbols benchmark clean test-emulated test-sanitized test-tfjs
all: found cpu

help:
	@echo "make            the CPU library ($(CPU_LIBRARY))"
	@echo "make cuda       the CUDA library ($(CUDA_LIBRARY)) where nvcc is (CUDA_ARCH)"
	@echo "make dist       both libraries to hand out, for every kind of GPU, without debug information ($(DIST), DIST_ARCH)"
	@echo "make sirt       the main job: reconstructs a phantom, figures in out/sirt (SIRT_ARGS)"
	@echo "make test       every test, in Bun, Deno and Node (TEST_ARGS: names of test files)"
	@echo "make test-emulated   every test in Bun on a GPU that the CPU plays (TEST_ARGS); make test-sanitized: with address sanitizer"
	@echo "make sanitize   the suite on builds with sanitizers: test-address, test-bounds, test-thread (TEST_ARGS)"
	@echo "make fuzz       libFuzzer over the C ABI (FUZZ_SECONDS)"
	@echo "make test-reference  what ASTRA, tomosipo and PyTorch computed, case by case (RAYSUM_REFERENCE)"
	@echo "make bundle     an archive for a machine with a GPU and no network ($(BUNDLE)), and there:"
	@echo "make test-gpu   every test on cuda:0, in Bun alone"
	@echo "make test-tfjs  TensorFlow.js's own suite on our backend, in every runtime (TFJS_ARGS: names of devices)"
	@echo "make check      types, format, lint, generated symbols, exported symbols"
	@echo "make benchmark  projections and SIRT on this machine (BENCH_ARGS)"
	@echo "make format     formats TypeScript and C"
	@echo "make clean      removes build and out"

found:
	@for tool in $(CC) nvcc bun deno node npm clang-format; do \
	  path=$$(PATH="$(CURDIR)/$(BIN):$$PATH" command -v $$tool) && echo "found   $$tool: $$path" || echo "missing $$tool"; \
	done

cpu: $(CPU_LIBRARY)

# nodelete: a runtime that ends closes the library while the threads of a device are still in it.
$(CPU_LIBRARY): $(OBJECTS)
	$(CC) -shared -Wl,-z,nodelete $(ALL_CFLAGS) -o $@.new $^ $(LDLIBS)
	@mv $@.new $@

cuda: $(CUDA_LIBRARY)

$(CUDA_LIBRARY): $(OBJECTS) $(CUDA_OBJECTS)
	$(NVCC) -shared -ccbin $(CC) -cudart static -arch=$(CUDA_ARCH) -Xlinker -z,nodelete,--exclude-libs,ALL,--as-needed -o $@.new $^ $(LDLIBS)
	@mv $@.new $@

$(BUILD)/cuda/%.o: csrc/cuda/%.cu Makefile
	@mkdir -p $(BUILD)/cuda
	$(NVCC) -std=c++17 -arch=$(CUDA_ARCH) $(CUDA_FLAGS) -Xcompiler -fPIC,-fvisibility=hidden,-fno-exceptions,-fno-threadsafe-statics,-Wall,-Wextra,-Werror -MMD -MP -c -o $@ $<

dist:
	$(MAKE) --no-print-directory BUILD=$(DIST) CFLAGS=-O3 CUDA_ARCH=$(DIST_ARCH) CUDA_FLAGS="-O3 --compress-mode=size" cpu cuda
	strip $(DIST)/libraysum.so $(DIST)/libraysum_cuda.so
	@ls -l $(DIST)/*.so

emulated: $(EMULATED_LIBRARY)

$(EMULATED_LIBRARY): $(OBJECTS) $(EMULATED_OBJECTS)
	$(CXX) -shared -Wl,-z,nodelete $(EMULATED_FLAGS) -o $@.new $^ $(LDLIBS)
	@mv $@.new $@

$(BUILD)/emulation_check: $(filter $(BUILD)/emulated/emulation/%,$(EMULATED_OBJECTS)) test/support/emulation_check.cc
	$(CXX) $(EMULATED_FLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/emulated/%.o: csrc/cuda/% Makefile
	@mkdir -p $(dir $@)
	$(CXX) $(EMULATED_FLAGS) $(if $(filter avx2,$(TARGETS)),$(FLAGS_avx2)) -x c++ -MMD -MP -c -o $@ $<

$(BUILD):
	@mkdir -p $@

define kernel_rule
$(KERNEL_BUILD)/%_$(1).o: csrc/%.c Makefile | $(BUILD)
	$$(CC) $$(ALL_CFLAGS) -ffp-contract=fast -fno-math-errno -DRS_TARGET=$(1) $$(FLAGS_$(1)) -MMD -MP -c -o $$@ $$<
endef
$(foreach t,$(TARGETS),$(eval $(call kernel_rule,$(t))))

# The texture law picks four neighbours for every lane: gcc uses gathers for that only where it is told that they are fast.
$(KERNEL_BUILD)/astra_avx512.o: FLAGS_avx512 += -mtune=icelake-server

$(BUILD)/%.o: csrc/%.c Makefile | $(BUILD)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

# Which headers every object was made from, as the compilers noted it.
-include $(wildcard $(BUILD)/*.d $(BUILD)/cuda/*.d $(BUILD)/emulated/*.d $(BUILD)/emulated/*/*.d $(KERNEL_BUILD)/*.d)

$(NODE_MODULES): package-lock.json
	npm install --no-save --workspaces=false --no-audit --no-fund
	@$(BUN) --version > /dev/null 2>&1 || node node_modules/bun/install.js
	@touch $@

# TensorFlow.js is a dependency of the workspace test/tfjs: only what needs it waits for its 80 MB.
$(TFJS): package-lock.json | $(NODE_MODULES)
	npm install --no-save --no-audit --no-fund
	@touch $(NODE_MODULES) $@

sirt: $(NODE_MODULES) $(CPU_LIBRARY)
	$(BUN) run examples/sirt.ts $(SIRT_ARGS)

# For the tests: a Node with node:ffi, which most systems lack. No devDependency: it is 212 MB and made for one platform.
$(NODE_FFI): | $(NODE_MODULES)
	@node -e 'require("node:ffi")' 2> /dev/null || npm install --prefix node_modules/.cache/node --no-save --no-package-lock \
	  --no-audit --no-fund node-$$(node -p 'process.platform + "-" + process.arch')@26.10.0 || true

test: $(NODE_MODULES) $(TFJS) $(CPU_LIBRARY) $(NODE_FFI)
	$(BUN) test/run.ts $(TEST_ARGS)

# For a machine with a GPU and without a network: unpack, then make test-gpu there. It needs make and nothing else.
BUNDLE := $(BUILD)/raysum-bundle.tar.xz
NOT_IN_BUNDLE := .cache .bin .package-lock.json bun bun-types deno esbuild typescript koffi @biomejs @deno @typescript @esbuild @koromix \
  @types raysum-test-tfjs
bundle: $(BUNDLE)
$(BUNDLE): $(NODE_MODULES) $(TFJS_SPECS) $(CPU_LIBRARY) $(CUDA_LIBRARY)
	@rm -rf $(BUILD)/bundle && mkdir -p $(BUILD)/bundle/raysum/node_modules/.bin $(BUILD)/bundle/raysum/build
	@cp -r package.json bunfig.toml Makefile lib csrc examples test $(BUILD)/bundle/raysum
	@cp $(CPU_LIBRARY) $(CUDA_LIBRARY) $(TFJS_SPECS) $(BUILD)/bundle/raysum/build
	@cp -r $(filter-out $(NOT_IN_BUNDLE:%=node_modules/%),$(wildcard node_modules/*)) $(BUILD)/bundle/raysum/node_modules
	@strip $(BUILD)/bundle/raysum/build/*.so && find $(BUILD)/bundle/raysum/node_modules -name '*.map' -delete
	@cd $(BUILD)/bundle/raysum/node_modules/@tensorflow && find . -type f ! -name '*.node.js' ! -name package.json -delete
	@cp node_modules/bun/bin/bun.exe $(BUILD)/bundle/raysum/node_modules/.bin/bun
	tar -C $(BUILD)/bundle -cf - raysum | xz -T0 -6 > $@.new && mv $@.new $@
	@rm -rf $(BUILD)/bundle && ls -l $@

test-gpu:
	RAYSUM_LIBRARY=$(CUDA_LIBRARY) RAYSUM_DEVICE=cuda:0 $(BUN) test/run.ts --bun $(TEST_ARGS)
	RAYSUM_LIBRARY=$(CUDA_LIBRARY) $(BUN) test/tfjs/run.ts --bun cuda:0
	RAYSUM_LIBRARY=$(CUDA_LIBRARY) $(BUN) test/reference.ts

# Every test in Bun on the emulated device, after the check of the emulation itself; then those of the kernels that share memory, on one
# with as little of it as the oldest GPUs have.
TESTS_small := fused-convolution law operator precision random_geometry residual-block slice tfjs-convolution
test-emulated: $(NODE_MODULES) $(TFJS) $(EMULATED_LIBRARY) $(BUILD)/emulation_check
	$(BUILD)/emulation_check
	RAYSUM_LIBRARY=$(abspath $(EMULATED_LIBRARY)) RAYSUM_DEVICE=cuda:0 RAYSUM_PATIENCE=20 $(BUN) test/run.ts --bun $(TEST_ARGS)
	RAYSUM_LIBRARY=$(abspath $(EMULATED_LIBRARY)) RAYSUM_DEVICE=cuda:0 RAYSUM_PATIENCE=20 RAYSUM_EMULATED_SHARED=65536 \
	  $(BUN) test/run.ts --bun $(or $(TEST_ARGS),$(TESTS_small))

# The same with address sanitizer: what touches memory out of bounds, freed memory or a misaligned vector ends the run with a report.
# The CPU's own kernels stay as they are: they are what is compared with.
SANITIZE := -fsanitize=address,undefined -fno-sanitize=shift-base -fno-sanitize-recover=undefined
test-sanitized: $(OBJECTS)
	LD_PRELOAD=$$($(CXX) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0 \
	  $(MAKE) --no-print-directory test-emulated BUILD=$(BUILD)/sanitized KERNEL_BUILD=$(BUILD) CFLAGS="-O2 -g -fno-omit-frame-pointer $(SANITIZE)"

test-reference: $(NODE_MODULES) $(TFJS) $(CPU_LIBRARY)
	$(BUN) test/reference.ts

# --ignore-annotations: tfjs-core says that its tests have no side effects, and they would be left out.
$(TFJS_SPECS): test/tfjs/specs.cjs $(TFJS) | $(BUILD)
	$(BIN)/esbuild $< --bundle --platform=node --format=cjs --ignore-annotations --main-fields=module,main --log-level=error --outfile=$@

test-tfjs: $(NODE_MODULES) $(TFJS_SPECS) $(CPU_LIBRARY) $(NODE_FFI)
	$(BUN) test/tfjs/run.ts $(TFJS_ARGS)

# The suite in Bun on builds of the CPU library that watch memory and undefined behaviour (test-address), accesses outside of arrays in
# the device's memory too (test-bounds: not where bytes are counted or the queue is timed), and threads (test-thread).
SANITIZE_address := -fsanitize=address,undefined -fno-sanitize-recover=all
SANITIZE_bounds := $(SANITIZE_address) -DRS_RED_ZONE=256
SANITIZE_thread := -fsanitize=thread
# JavaScriptCore stops threads by signals, which the thread sanitizer holds back from one that waits: no collector of its own thread.
ENVIRONMENT_address := LD_PRELOAD=$$($(CC) -print-file-name=libasan.so) ASAN_OPTIONS=detect_leaks=0
ENVIRONMENT_bounds := $(ENVIRONMENT_address)
ENVIRONMENT_thread := LD_PRELOAD=$$($(CC) -print-file-name=libtsan.so) TSAN_OPTIONS="ignore_noninstrumented_modules=1 halt_on_error=1" \
  BUN_JSC_useConcurrentGC=0 BUN_JSC_useConcurrentJIT=0 BUN_JSC_numberOfGCMarkers=1
TESTS_bounds := array array-random law operator random_geometry ray_model slice transfers
TESTS_thread := $(TESTS_bounds) array-host bad-input device pointers queue scope sirt
sanitize: test-address test-bounds test-thread
test-address test-bounds test-thread: test-%: $(NODE_MODULES)
	@$(MAKE) -s BUILD=build/$* CFLAGS="-O1 -g -fno-omit-frame-pointer" EXTRA_CFLAGS="$(SANITIZE_$*)" build/$*/libraysum.so
	CFLAGS="$(filter -fsanitize%,$(SANITIZE_$*))" RAYSUM_LIBRARY=$(CURDIR)/build/$*/libraysum.so RAYSUM_PATIENCE=20 $(ENVIRONMENT_$*) \
	  $(BUN) test/run.ts --bun $(or $(TEST_ARGS),$(TESTS_$*))

# What calls in any order and with any arguments may break, found by libFuzzer. The corpus and what breaks stay in build/fuzz.
FUZZ_CC ?= clang-14
FUZZ_SECONDS ?= 600
FUZZ_FLAGS := -fno-omit-frame-pointer -fsanitize=address,undefined,float-cast-overflow -fno-sanitize-recover=all -DRS_RED_ZONE=256
fuzz:
	@command -v $(FUZZ_CC) > /dev/null || { echo "make fuzz needs clang with libFuzzer, and $(FUZZ_CC) is missing: Debian has it in" \
	  "clang-14 and libclang-rt-14-dev; FUZZ_CC names another"; exit 1; }
	@$(MAKE) -s BUILD=build/fuzz CC=$(FUZZ_CC) CFLAGS="-O1 -g" EXTRA_CFLAGS="$(FUZZ_FLAGS) -fsanitize=fuzzer-no-link" build/fuzz/abi
	@mkdir -p build/fuzz/corpus
	ASAN_OPTIONS=allocator_may_return_null=1 build/fuzz/abi -max_total_time=$(FUZZ_SECONDS) -max_len=2048 -len_control=0 -timeout=20 \
	  -rss_limit_mb=4096 -malloc_limit_mb=4096 -print_final_stats=1 -artifact_prefix=build/fuzz/ build/fuzz/corpus
$(BUILD)/abi: test/fuzz/abi.c test/fuzz/tensors.h $(OBJECTS)
	$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer -Icsrc -o $@ $(filter-out %.h,$^) $(LDLIBS)

benchmark: $(NODE_MODULES) $(CPU_LIBRARY)
	$(BUN) run examples/benchmark.ts $(BENCH_ARGS)

symbols: $(NODE_MODULES)
	$(BUN) csrc/bindings.ts

check: $(NODE_MODULES) $(TFJS) $(CPU_LIBRARY)
	$(BIN)/tsc --noEmit -p .
	$(BIN)/biome check .
	$(BUN) csrc/bindings.ts --check
	@nm -D --defined-only $(CPU_LIBRARY) | awk '{print $$3}' | sort > $(BUILD)/exported.txt
	@sed -n 's/^RS_API int32_t \(rs_[a-z_]*\)(.*/\1/p' csrc/raysum.h | sort | diff - $(BUILD)/exported.txt \
	  && echo "the library exports what csrc/raysum.h declares"
	@if command -v clang-format > /dev/null; then clang-format --dry-run --Werror csrc/*.[ch] csrc/cuda/*.cu csrc/cuda/*.h $(EMULATION)/*.h $(EMULATION)/*.cc && echo "C is formatted"; \
	  else echo "skipped: clang-format is missing, C format not checked"; fi

format: $(NODE_MODULES)
	$(BIN)/biome check --write .
	clang-format -i csrc/*.[ch] csrc/cuda/*.cu csrc/cuda/*.h $(EMULATION)/*.h $(EMULATION)/*.cc

clean:
	rm -rf $(BUILD) out
