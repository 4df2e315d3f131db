"""The CI gate: is one bundle slower than another, or worse in what has no noise?"""
