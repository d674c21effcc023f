"""The proof, by segment, with intervals: evaluate, compare, ledger."""
