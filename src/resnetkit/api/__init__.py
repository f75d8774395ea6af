"""The verbs: compositions of what the rooms below can do. They return frozen dataclasses and print nothing."""
