"""Benchmarks: Scoreline against the loops people write today, whole processes side by side."""
