"""Experiments with known answers: average precision, the systems, their comparison."""
