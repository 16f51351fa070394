"""Sentences that more than one mode says."""

RANDOM_NOTE = (
  "the weights are random, so the names of classes mean nothing here: read the scores, not the names"
)
