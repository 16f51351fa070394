"""Measures of a ranking, in NumPy alone."""
