"""Rows as an evaluation finds them, and their report."""

import math
import re

from cwf_jax.evaluation.rows import Row
from cwf_jax.reporting.published import OXFORD
from cwf_jax.reporting.results import Measured, Report
from cwf_jax.systems.settings import Settings

QUERIES = ("all_souls_1", "bod,leian_1", "keble_1")


def made_row(name, values, system=None, whitened_by="paris6k", **more):
  values = values if isinstance(values, dict) else {"mAP": values}
  defaults = {"network": "vgg16_cam", "layer": "conv5_1", "sizes": "shorter side 720", "query": "cells", "dimensions": 512}
  system = system or name.partition("@")[0].partition("+")[0]
  return Row(name, system, whitened_by=whitened_by, values=values, **{**defaults, **more})


ROWS = (
  made_row("raw", [0.1, math.nan, 0.3], whitened_by="", dimensions=32),
  made_row("raw+pca", [0.25, math.nan, 0.5], vectors=12, seconds=1.26),
  made_row("crow@default", [0.5, math.nan, 0.5], vectors=12, left_out=3),
  Row("rmac@default", "rmac", "3 vectors are | too few\nto whiten by"),
  made_row("ofa", [0.75, math.nan, 0.5], vectors=12, zero=2, odd_queries=1),
  made_row("fixed", [math.nan] * 3, classes=("dome", "analog clock")),
)


def measured_of(rows=ROWS, name=OXFORD, title="Oxford5k", reason=""):
  return Measured(name, title, rows, QUERIES, reason)


def report_of(*measured, comparisons=(), settings=None):
  head = {"command": "`main.py --a=b|c`", "weights": "made"}
  return Report(measured, head, settings or Settings.preset("paper"), {"check": 0.04, "rows": 12.345}, tuple(comparisons))


def tables_of(page):
  """By heading, the cells of each table's lines; every table is whole."""
  found, heading, lines = {}, "", []
  for line in [*page.splitlines(), ""]:
    if line.startswith("|"):
      lines.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    elif lines:
      assert len({len(cells) for cells in lines}) == 1, f"{heading}: lines of other lengths"
      assert set(lines[1]) == {"---"}, f"{heading}: no line below the header"
      assert heading not in found
      found[heading], lines = [lines[0], *lines[2:]], []
    heading = line.lstrip("# ") if line.startswith("#") else heading
  return found
