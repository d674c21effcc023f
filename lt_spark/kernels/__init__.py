"""Pure numpy: top-k, metrics, bootstrap. No Spark."""
