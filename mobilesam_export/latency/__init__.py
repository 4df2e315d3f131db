"""Pieces of `benchmark` and `compare`: measuring, statistics, decisions, machines, reports."""
