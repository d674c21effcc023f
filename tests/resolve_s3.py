"""Lets Spark resolve Hadoop's S3 client into its ivy cache, where tests/test_s3.py looks for it."""

from pyspark.sql import SparkSession

from tests.test_s3 import hadoop_aws, is_resolved

if __name__ == "__main__" and not is_resolved():
    print(f"resolving {hadoop_aws()} (once)", flush=True)
    builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
    builder.config("spark.jars.packages", hadoop_aws()).getOrCreate().stop()
