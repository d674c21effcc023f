"""Stages that make the log honest and balanced: clean, split, segment, rebalance."""
