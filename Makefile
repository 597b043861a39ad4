# make study [PROFILE=mini|grocery|rehearsal|paper|smoke] [FORCE=1]   run the notebooks, only what changed
# make study MEASURE=1                                                run everything, and renew the times that are kept
# make test                                                           lint and test
# make test-browser                                                   test the demo in an installed Chromium
# make test-platforms                                                 the tests in each Python that is there, and with the oldest torch
# make test-environment                                               build what environment.yml describes in an empty folder, by pip
# make torture [KILLS=50]                                             kill the smoke study again and again; its tables must not change
# make repeat [PROFILE=mini]                                          run a study once more in an empty copy; every file must be the same
# make memory                                                         measure the peak memory of every stage
# make lab                                                            open JupyterLab
# make demo [PROFILE=mini]                                            open the demo as a page
# make demo-pictures                                                  take the pictures of the demo in an installed Chromium
# make demo-latency                                                   measure larger models and a larger gallery (some minutes)
PROFILE ?= mini
PYTHON := .venv/bin/python
SETUP := .stamps/setup
export UV_PYTHON_DOWNLOADS := never
export PYTHONUTF8 := 1
export TQDM_MININTERVAL ?= 5

.PHONY: help study test test-browser test-platforms test-environment torture repeat memory lab demo demo-pictures demo-latency setup lint lock clean

help:
	@sed -n 's/^# make/make/p' Makefile

study: $(SETUP)
	@$(PYTHON) -m waldo_utils run --profile $(PROFILE) $(if $(FORCE),--force) $(if $(MEASURE),--measure)

test: $(SETUP) lint
	@OMP_NUM_THREADS=1 $(PYTHON) -m pytest --numprocesses 2 --dist loadfile --durations=8

test-browser: $(SETUP)
	@WALDO_BROWSER=1 $(PYTHON) -m pytest tests/app/test_demo_browser.py

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
	@$(PYTHON) -m nbstripout --verify notebooks/*.ipynb

lab: $(SETUP)
	@$(PYTHON) -m jupyterlab notebooks --ServerApp.tornado_settings="{'websocket_max_message_size': 209715200}"

demo: $(SETUP)
	@$(PYTHON) -m waldo_utils demo --profile $(PROFILE)

demo-pictures: $(SETUP)
	@$(PYTHON) -m waldo_utils.app.demo_pictures

demo-latency: $(SETUP)
	@$(PYTHON) -m waldo_utils.app.latency

setup: $(SETUP)

# uv installs the locked packages, checked by hash; where it is missing it comes into .tools.
# The stamp names the folder: in one that was moved or copied the package would still be that of the old place.
ifneq ($(shell cat $(SETUP) 2>/dev/null),$(CURDIR))
.PHONY: $(SETUP)
endif
$(SETUP): requirements.lock pyproject.toml
	@uv=$$(command -v uv || echo .tools/bin/uv); \
	if [ ! -x "$$uv" ]; then \
		echo "installing uv into .tools"; \
		python3 -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv; \
	fi; \
	echo "installing the locked packages into .venv (a few GB the first time)"; \
	[ -x $(PYTHON) ] || "$$uv" venv --quiet --python 3.11 .venv 2>/dev/null || "$$uv" venv --quiet .venv; \
	"$$uv" pip sync --quiet --python $(PYTHON) --require-hashes requirements.lock && \
	"$$uv" pip install --quiet --python $(PYTHON) --no-deps --editable .
	@mkdir -p .stamps && echo "$(CURDIR)" > $(SETUP)

# Renew the lock after changing the dependencies in pyproject.toml. It holds versions and hashes, no addresses.
lock: $(SETUP)
	@uv=$$(command -v uv || echo .tools/bin/uv); \
	"$$uv" pip compile --quiet --upgrade --universal --generate-hashes --no-header --no-emit-index-url \
		--python-version 3.11 --extra demo --extra test pyproject.toml --output-file requirements.lock
	@sed -n -E 's/^([A-Za-z0-9_.-]+==[^ \\]+)( ; ([^\\]*[^ \\]))? *\\?$$/\1\2/p' requirements.lock > constraints.txt

clean:
	rm -rf data/mini data/smoke .stamps
