"""A Spark Connect server beside the tests' own session, in its Java."""

import socket
from typing import Any


def start_connect_server(spark: Any) -> str:
    """Start a Spark Connect server on 127.0.0.1 that shares the session's context; it ends with it.

    Returns:
        The address, as SPARK_REMOTE takes it.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    jvm, context = spark.sparkContext._jvm, spark.sparkContext._jsc.sc()
    settings = jvm.org.apache.spark.SparkEnv.get().conf()
    settings.set("spark.connect.grpc.binding.address", "127.0.0.1")
    settings.set("spark.connect.grpc.binding.port", str(port))
    jvm.org.apache.spark.sql.connect.service.SparkConnectService.start(context)
    return f"sc://127.0.0.1:{port}"
