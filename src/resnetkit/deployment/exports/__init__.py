"""A network as a file that other runtimes take, and such a file opened and checked again."""
