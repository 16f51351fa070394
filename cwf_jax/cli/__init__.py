"""The command line, one module for each mode: its flags, its progress, its output.

A mode's module is imported to read its flags, so it imports JAX and all that stands on it only when it runs.
"""
