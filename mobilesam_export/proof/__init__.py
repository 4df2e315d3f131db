"""A bundle's files, held to PyTorch: here, in pessimistic float16, and as other chips compute."""
