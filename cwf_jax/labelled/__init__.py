"""Labelled photographs for training."""
