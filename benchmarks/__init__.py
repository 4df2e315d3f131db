"""Scripts that measure, their results, and the tables made of those: see README.md."""
