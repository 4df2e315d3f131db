"""A stub."""
def read(path):
    raise NotImplementedError
