"""Latency: subject -> timing -> statistics -> results, and budgets."""
