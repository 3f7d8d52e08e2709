"""A stand-in for PyTorch's own package index: the server, and wheels for it made from those of PyPI."""
