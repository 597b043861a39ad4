# make study [PROFILE=mini|photos|sop|rehearsal|paper|smoke] [FORCE=1]   run the notebooks, only what changed
# make study SEEDS=3                                                 the same with three seeds; results/mini@3 stands beside it
# make study MEASURE=1                                                run everything, and renew the times that are kept
# make test                                                           lint and test
# make test-browser                                                   test the demo and the report in an installed Chromium
# make strip                                                          take outputs and editors' metadata out of the notebooks
# make test-platforms                                                 the tests in each Python that is there, and with the oldest torch
# make test-environment                                               build what environment.yml describes in an empty folder, by pip
# make torture [KILLS=50]                                             kill the smoke study again and again; its tables must not change
# make repeat [PROFILE=mini]                                          run a study once more in an empty copy; every file must be the same
# make memory                                                         measure the peak memory of every stage
# make lab [ARGS=--no-browser]                                        open JupyterLab
# make demo [ARGS="--index FOLDER --port 9000"]                       open the demo as a page
# make demo-pictures                                                  take the pictures of the demo in an installed Chromium
# make demo-latency                                                   measure larger models and a larger gallery (some minutes)
PROFILE ?= mini
PYTHON := .venv/bin/python
SETUP := .stamps/setup
# What JupyterLab notes of its own when it saves a notebook.
NOTED := language_info.codemirror_mode language_info.file_extension language_info.mimetype \
	language_info.nbconvert_exporter language_info.pygments_lexer language_info.version
STRIP := -m nbstripout --extra-keys "$(foreach key,$(NOTED),metadata.$(key)) cell.metadata.execution"
export UV_PYTHON_DOWNLOADS := never
export PYTHONUTF8 := 1
export TQDM_MININTERVAL ?= 5

.PHONY: help study test strip test-browser test-platforms test-environment torture repeat memory lab demo demo-pictures demo-latency setup lint lock clean

help:
	@sed -n 's/^# make/make/p' Makefile

study: $(SETUP)
	@$(PYTHON) -m waldo_utils run --profile $(PROFILE)$(if $(SEEDS),@$(SEEDS)) $(if $(FORCE),--force) $(if $(MEASURE),--measure)

test: $(SETUP)
	@$(MAKE) --no-print-directory lint; linted=$$?; \
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses 2 --dist loadfile --durations=8 && exit $$linted

test-browser: $(SETUP)
	@WALDO_BROWSER=1 $(PYTHON) -m pytest tests/app/test_demo_browser.py tests/run/test_report.py

test-platforms: $(SETUP)
	@$(PYTHON) -m tox

# What conda would hand to pip, in an empty environment that goes again; uv's cache makes it cheap after a set-up.
test-environment: $(SETUP)
	@uv=$$(command -v uv || echo .tools/bin/uv); empty=$$(mktemp -d); trap 'rm -rf "$$empty"' EXIT; \
	python=$$(sed -n 's/^  - python=//p' environment.yml); \
	"$$uv" venv --quiet --python "$$python" "$$empty" 2>/dev/null || "$$uv" venv --quiet "$$empty"; \
	sed -n 's/^      - \(-[ce]\) \(.*\)/\1 \2/p' environment.yml | xargs "$$uv" pip install --quiet --python "$$empty/bin/python" && \
	"$$empty/bin/python" -m pytest tests/test_environment.py tests/models tests/evaluation && \
	"$$empty/bin/python" -m waldo_utils status --profile smoke

torture: $(SETUP)
	@$(PYTHON) tests/torture.py --kills $(or $(KILLS),50)

repeat: $(SETUP)
	@$(PYTHON) tests/torture.py --kills 0 --expected . --profile $(PROFILE)

memory: $(SETUP)
	@$(PYTHON) tests/memory.py

lint: $(SETUP)
	@$(PYTHON) -m ruff check .
	@$(PYTHON) $(STRIP) --verify notebooks/*.ipynb || \
		{ echo "the notebooks hold outputs or an editor's metadata: take them out by \`make strip\`" >&2; exit 1; }

strip: $(SETUP)
	@$(PYTHON) $(STRIP) notebooks/*.ipynb

# Kernels that it starts keep the memory of freed tensors, as every command here does.
lab: export MALLOC_TRIM_THRESHOLD_ := 2147483647
lab: export MALLOC_MMAP_THRESHOLD_ := 2147483647
lab: $(SETUP)
	@root=; if [ "$$(id -u)" = 0 ]; then \
		if [ -n "$$container" ] || [ -e /.dockerenv ] || [ -e /run/.containerenv ]; then \
			echo "you are root in a container: JupyterLab runs with --allow-root"; root=--allow-root; \
		else echo "JupyterLab refuses root: if this is wanted, \`make lab ARGS=--allow-root\`"; fi; fi; \
	$(PYTHON) -m jupyterlab notebooks $$root \
		--ServerApp.tornado_settings="{'websocket_max_message_size': 209715200}" $(ARGS)

demo: $(SETUP)
	@$(PYTHON) -m waldo_utils demo $(if $(filter command line environment,$(origin PROFILE)),--profile $(PROFILE)) $(ARGS)

demo-pictures: $(SETUP)
	@$(PYTHON) -m waldo_utils.app.demo_pictures

demo-latency: $(SETUP)
	@$(PYTHON) -m waldo_utils.app.latency

setup: $(SETUP)

# uv installs the locked packages, checked by hash; where it is missing it comes into .tools.
# The stamp names the folder: in one that was moved or copied the package would still be that of the old place.
ifneq ($(shell [ "$$(cat $(SETUP) 2>/dev/null)" = "$$(pwd -P)" ] && echo here),here)
.PHONY: $(SETUP)
endif
$(SETUP): requirements.lock pyproject.toml
	@case "$$(pwd -P)" in *:*) echo "the path of this folder holds ':', which separates paths: rename it" >&2; exit 1;; esac
	@uv=$$(command -v uv || echo .tools/bin/uv); \
	if [ ! -x "$$uv" ]; then \
		echo "installing uv into .tools"; \
		python3 -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv; \
	fi; \
	echo "installing the locked packages into .venv (a few GB the first time)"; \
	[ -x $(PYTHON) ] || "$$uv" venv --quiet --python 3.11 .venv 2>/dev/null || "$$uv" venv --quiet .venv; \
	"$$uv" pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock && \
	"$$uv" pip install --quiet --python $(PYTHON) --no-deps --editable .
	@mkdir -p .stamps && pwd -P > $(SETUP)

# Renew the lock after changing the dependencies in pyproject.toml. It holds versions and hashes, no addresses.
lock: $(SETUP)
	@uv=$$(command -v uv || echo .tools/bin/uv); \
	"$$uv" pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra test pyproject.toml --output-file requirements.lock
	@sed -n -E 's/^([A-Za-z0-9_.-]+==[^ \\]+)( ; ([^\\]*[^ \\]))? *\\?$$/\1\2/p' requirements.lock > constraints.txt

clean:
	rm -rf data/mini data/mini@* data/smoke data/smoke@* .stamps
