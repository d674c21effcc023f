# An image for driver and executors on Kubernetes: Spark, Java, Python, lt_spark and its libraries, the Delta jars.
# Models are no part of it: mount them, or let files.root name a store. docs/running/kubernetes.md says how it is used.
#
#   docker build --tag lt-spark:0.1.0 .
#   docker build --tag lt-spark:0.1.0 --build-arg EXTRAS=local .    # without torch: no language model, no sequence model

ARG SPARK_IMAGE=apache/spark:4.0.1-scala2.13-java17-ubuntu
ARG PYTHON_IMAGE=python:3.11-slim-bookworm

# of Spark's own image only the entry point is taken: its Python (3.10) is older than lt_spark's
FROM ${SPARK_IMAGE} AS spark

FROM ${PYTHON_IMAGE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# liblapack3: a native LAPACK, with which ALS is quicker; tini, gosu and libnss-wrapper: what Spark's entry point calls
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends \
        gosu liblapack3 libnss-wrapper openjdk-17-jre-headless procps tini \
    && rm -rf /var/lib/apt/lists/*

ARG EXTRAS=local,llm,bert
WORKDIR /opt/lt_spark
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY lt_spark ./lt_spark
# Spark is the pip package's, at the place where Kubernetes mounts its settings
RUN pip install --no-cache-dir --constraint constraints.txt ".[${EXTRAS}]" \
    && site="$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" \
    && mv "${site}/pyspark" /opt/spark \
    && ln -s /opt/spark "${site}/pyspark" \
    && python -c 'import lt_spark, delta, pyarrow'

# the Delta jars, by Spark's own resolution, into Spark's class path; other bytes than these end the build
COPY tools/delta_jars.sha256 ./
WORKDIR /opt/spark/jars
RUN python -c "from delta import configure_spark_with_delta_pip as with_delta; \
from pyspark.sql import SparkSession; \
builder = SparkSession.builder.master('local[1]').config('spark.ui.enabled', 'false'); \
with_delta(builder.config('spark.driver.bindAddress', '127.0.0.1').config('spark.driver.host', '127.0.0.1')) \
.getOrCreate().stop()" \
    && cp /root/.ivy2.5.2/jars/*.jar . \
    && sha256sum --check --strict /opt/lt_spark/delta_jars.sha256 \
    && rm -rf /root/.ivy2.5.2

COPY --from=spark /opt/entrypoint.sh /opt/entrypoint.sh
COPY jobs /opt/lt_spark/jobs
COPY conf/base.yaml conf/get_gpus.sh /opt/lt_spark/conf/

ENV SPARK_HOME=/opt/spark \
    PATH=/opt/spark/bin:${PATH} \
    PYSPARK_PYTHON=/usr/local/bin/python \
    PYSPARK_DRIVER_PYTHON=/usr/local/bin/python \
    PYTHONDONTWRITEBYTECODE=1

# Spark's number for its user; a pod may run as any other, too
RUN groupadd --system --gid 185 spark \
    && useradd --system --uid 185 --gid spark --create-home --home-dir /home/spark spark \
    && install --directory --owner=spark --group=spark /opt/work
WORKDIR /opt/work
USER 185
ENTRYPOINT ["/opt/entrypoint.sh"]
