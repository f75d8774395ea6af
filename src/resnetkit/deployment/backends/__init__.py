"""Runtimes that compute a network: each a file, each a `Classifier`."""
