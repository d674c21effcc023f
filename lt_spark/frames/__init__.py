"""Spark functions that the rooms share: known, histories, seen, dense_ids, top_k, user_metrics, bootstrap."""
