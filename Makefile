# `make demo` and `make test` need no preparation: tools/setup.sh does the work.

VENV ?= .venv
ARGS ?=
export PYTHON VENV SYSTEM_PACKAGES CC FC
# make's own defaults (cc, f77) were not chosen by the user
ifeq ($(origin CC),default)
unexport CC
endif
ifeq ($(origin FC),default)
unexport FC
endif

.PHONY: help demo test slow portable fuzz sanitize bench lint clients wheels docs cookbook clean

help:
	@echo "make demo    set up, then fit NIST's certified regressions: a table and out/nist.png"
	@echo "make test    set up, then run the test suite"
	@echo "make slow    set up, then run the tests that take minutes or gigabytes"
	@echo "make portable  set up, then run the tests that contain numbers under other processors, libraries and Pythons"
	@echo "make fuzz    set up, then compare FUZZ_CASES random fits with MINPACK, and arguments with SciPy"
	@echo "make sanitize  set up, then run the suite and the threads under sanitizers, the Fortran under valgrind"
	@echo "make bench   set up, then measure against SciPy, MINPACK and others: out/bench.json and out/bench.png"
	@echo "make lint    set up, then check style, types and the compilers' warnings"
	@echo "make clients the tests of lmfit, astropy and others, with SciPy and with this package instead"
	@echo "make wheels  the sdist and a wheel for each Python found, checked and tested, into dist/"
	@echo "make docs    the documentation, into build/html, with a check of every page in Chromium"
	@echo "make cookbook  every page of the documentation's cookbook, its output compared, its picture drawn"
	@echo "make clean   remove everything that make has made"
	@echo
	@echo "Setting up makes $(VENV) and installs a missing compiler where that is permitted."
	@echo "Settings: PYTHON=python3.12  VENV=.venv  SYSTEM_PACKAGES=no  ARGS='-k nist'"

demo:
	@tools/setup.sh demo
	@$(VENV)/bin/python examples/nist.py $(ARGS)

test:
	@tools/setup.sh test
# (a test builds a wheel, for which meson and ninja must be on PATH)
	@PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH" $(VENV)/bin/python -m pytest -n auto -m "not slow" $(ARGS)

slow:
	@tools/setup.sh test
	@PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH" $(VENV)/bin/python -m pytest -m slow $(ARGS)

# in environments of its own, in build/portable; takes about 12 minutes
portable:
	@tools/setup.sh test
	@PATH="$$(cd "$(VENV)/bin" && pwd):$$PATH" $(VENV)/bin/python tools/portable.py $(ARGS)

# FUZZ_CASES=1000000 takes about two minutes; SciPy before 1.18 does not have MINPACK's bits
FUZZ_CASES ?= 1000000
fuzz:
	@tools/setup.sh test
	@$(VENV)/bin/python tests/fuzz/differential.py --cases $(FUZZ_CASES)
	@$(VENV)/bin/python tests/fuzz/arguments.py --cases $$(($(FUZZ_CASES)/50))

sanitize:
	@tools/setup.sh test
	@VENV=$(VENV) tools/sanitize.sh $(ARGS)

bench:
	@tools/setup.sh bench
	@$(VENV)/bin/python benchmarks/run.py $(ARGS)

lint:
	@tools/setup.sh lint
	@$(VENV)/bin/python tools/lint.py $(ARGS)

# in an environment of its own, in build/clients; takes about half an hour
clients:
	@tools/setup.sh clients
	@$(VENV)/bin/python tools/clients.py $(ARGS)

wheels:
	@tools/setup.sh wheels
	@$(VENV)/bin/python tools/wheels.py $(ARGS)

docs:
	@tools/setup.sh docs
	@rm -rf build/html docs/gallery docs/api/generated
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -b html -d build/doctrees docs build/html $(ARGS)
	@echo "docs: build/html/index.html"
	@$(VENV)/bin/python tools/check_site.py build/html

# ARGS=peaks: one page; ARGS="--update peaks": writes what it prints into the page
cookbook:
	@tools/setup.sh cookbook
	@$(VENV)/bin/python tools/cookbook.py $(ARGS)

clean:
	rm -rf $(VENV) build out .pytest_cache docs/gallery docs/api/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
