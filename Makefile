# Everything happens in .venv and build/.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
ONNX_READY := .venv/onnx-ready

.PHONY: setup demo check test readme arm bench bench-quality bench-speed wheel clean \
	kotlin-compiler swift-toolchain
CHECKPOINT ?= demo

setup: $(READY)

# In two steps, so that `make demo` has a page to click on before the rest is downloaded. torch by
# itself and first: of the range in pyproject.toml pip may take a build with several GB of CUDA.
# To compile all of torch takes three times as long as to unpack it, so that waits for the second step.
FIRST := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
$(ONNX_READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(FIRST) "torch==2.13.*"
	$(FIRST) --editable ".[onnx]"
	touch $(ONNX_READY)

$(READY): $(ONNX_READY)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable ".[all]" --group dev
	-$(BIN)/python -m compileall -qq -j 0 .venv/lib
	touch $(READY)

# The web page first, and then what takes longer. The demo weights know generated scenes only, so that
# is what is segmented.
SERVE := python3 build/demo/onnx/sample/web/serve.py
# onnxruntime-web comes during the export. Without it (no npm) the page takes it from a CDN.
WEB := build/demo/web
demo: $(ONNX_READY)
	@rm -rf $(WEB) && mkdir -p $(WEB) && cp mobilesam_export/bundle/samples/web/package.json $(WEB)
	@if command -v npm >/dev/null; then npm install --prefix $(WEB) --silent \
		--no-package-lock --no-audit --no-fund --ignore-scripts & fi; \
	$(BIN)/mobilesam-export onnx --checkpoint demo --out build/demo/onnx && wait
	@if [ -d $(WEB)/node_modules ]; then mv $(WEB)/node_modules build/demo/onnx/sample/web; fi
	@echo "The page is ready. To click on images in a browser: $(SERVE)"
	$(BIN)/python -m benchmarks.held_out_scene 5 build/demo/scene.png
	$(BIN)/mobilesam-export segment build/demo/onnx build/demo/scene.png --point 281,414 \
		--out build/demo/mask.png --overlay build/demo/overlay.png
	$(MAKE) --no-print-directory setup
	$(BIN)/mobilesam-export coreml --checkpoint demo --out build/demo/coreml
	@echo "Look at build/demo/overlay.png; hand build/demo/coreml to an app developer."
	@echo "To click on images in a browser: $(SERVE)"

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(READY)
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# What tests of the Kotlin and Swift samples need; without it they are skipped. The chroot: 2.7 GB, root.
kotlin-compiler: .kotlin/node_modules
.kotlin/node_modules:
	npm install --silent --no-save --no-audit --no-fund --prefix .kotlin kotlin-compiler@2.3.20

swift-toolchain:
	tests/swift/toolchain.sh .swift

# Generated blocks of the READMEs, from benchmarks/results/ and targets/; nothing is measured.
readme: $(READY)
	$(BIN)/python -m benchmarks.readme

# An emulator and ARM builds for `verify --arm`, 270 MB in .arm/.
arm: $(READY)
	$(BIN)/python -m benchmarks.arm_setup

bench: $(READY)
	$(BIN)/python -m benchmarks.coreml_graph
	$(BIN)/python -m benchmarks.damaged_inputs
	$(BIN)/python -m benchmarks.interpreter_parity
	$(BIN)/python -m benchmarks.interpreter_time
	$(BIN)/python -m benchmarks.export_cost
	$(BIN)/python -m benchmarks.parity
	$(BIN)/python -m benchmarks.samexporter_client
	$(BIN)/python -m benchmarks.readme

# Masks of the demo weights, and what each recipe costs them: about an hour.
bench-quality: $(READY)
	$(BIN)/python -m benchmarks.demo_quality build/demo-quality
	$(BIN)/python -m benchmarks.recipes --no-latency

# Latency: tens of minutes, and a quiet machine. Pairs are appended to those that are there.
SPEED := build/speed
bench-speed: $(READY)
	$(BIN)/python -m pip install --quiet --group paper
	for recipe in float32 float16; do \
		$(BIN)/mobilesam-export onnx --recipe $$recipe --checkpoint $(CHECKPOINT) \
			--out $(SPEED)/onnx-$$recipe || exit; done
	for recipe in float32 w8-dynamic; do \
		$(BIN)/mobilesam-export tflite --recipe $$recipe --checkpoint $(CHECKPOINT) \
			--out $(SPEED)/tflite-$$recipe || exit; done
	$(BIN)/mobilesam-export benchmark $(SPEED)/onnx-float32 $(SPEED)/onnx-float16 \
		$(SPEED)/tflite-float32 $(SPEED)/tflite-w8-dynamic --budget paper \
		--save benchmarks/results/latency.json --plot benchmarks/results/latency.png
	$(BIN)/python -m benchmarks.paper_table $(SPEED)/onnx-float32 $(SPEED)/tflite-float32 \
		$(SPEED)/tflite-w8-dynamic
	$(BIN)/python -m benchmarks.gate_power real $(SPEED)/onnx-float32 decoder
	$(BIN)/python -m benchmarks.gate_power real $(SPEED)/onnx-float32 encoder
	$(BIN)/python -m benchmarks.gate_power simulate
	$(BIN)/python -m benchmarks.gpu $(SPEED)/onnx-float32
	$(BIN)/python -m benchmarks.tflite_cpu --prepare
	$(BIN)/python -m benchmarks.tflite_cpu
	$(BIN)/python -m benchmarks.speed $(SPEED)/beside --save
	$(BIN)/python -m benchmarks.readme

wheel: $(READY)
	$(BIN)/python -m build --wheel

clean:
	rm -rf build dist .venv *.egg-info
