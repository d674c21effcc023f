"""Recommenders; each writes candidates."""
