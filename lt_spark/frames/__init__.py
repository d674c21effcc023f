"""Spark functions that the rooms share: known, histories, seen, top_k, user_metrics, bootstrap."""
