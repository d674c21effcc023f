"""Candidates made into recommendations: tune, blend, explain."""
