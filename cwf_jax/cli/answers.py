"""A query's answers as a table for people, or as one line of JSON for programs."""

import json
import textwrap

from cwf_jax.cli.notes import RANDOM_NOTE
from cwf_jax.errors import printable

MEANINGS = {
  "offline": "each image by its own classes",
  "online": "every image by the classes of the query",
  "fixed": "every image by the classes given",
}
_ID_WIDTH, _LINE_WIDTH = 40, 118


def format_answers(form: str, query: str, results: list, aggregation: str, settings) -> str:
  """The answers to one query.

  Args:
    form: "table" or "json".
    query: its name.
    results: of `Searcher.search`.
    aggregation: of the search.
    settings: of the index.
  """
  if form == "table":
    return format_table(query, results, aggregation, settings.is_random)
  found = {"query": query, "results": [result.to_json() for result in results]}
  if settings.is_random:
    found |= {"weights": settings.weights, "note": RANDOM_NOTE}
  return json.dumps(found)


def format_table(query: str, results: list, aggregation: str, is_random: bool) -> str:
  """Answers as aligned columns: rank, score, id, and what made the score; a long id has its reason on the next line."""
  expanded = any(result.expanded_from for result in results)
  title = f"query {printable(query)}: {aggregation} search, {MEANINGS[aggregation]}"
  ids = [printable(result.id) for result in results]
  width = max(min(max(map(len, ids)), _ID_WIDTH), len("image"))
  reason = "the images it was expanded with" if expanded else "classes"
  lines = [title, f"rank   score  {'image':<{width}}  {reason}, with their shares of the score"]
  for result, name in zip(results, ids, strict=True):
    head = f"{result.rank:4d}  {_decimal(result.score):>6}  {name:<{width}}"
    parts = [f"{printable(part.name.strip('()'))} {_decimal(part.share)}" for part in result.expanded_from or result.classes]
    told = _wrap(", ".join(parts) + (f"; lacks {result.lacked} of the classes" if result.lacked else ""), width)
    indent = " " * (16 + width)
    lines += [f"{head}  {told[0]}"] if len(name) <= width else [head, indent + told[0]]
    lines += [indent + line for line in told[1:]]
  if is_random and not expanded:
    lines.append(f"note: {RANDOM_NOTE}")
  return "\n".join([*lines, ""])


def _wrap(text: str, width: int) -> list[str]:
  return textwrap.wrap(text, _LINE_WIDTH - 16 - width, break_long_words=False, break_on_hyphens=False)


def _decimal(number: float) -> str:
  return f"{round(number, 4) + 0.0:.4f}"  # never -0.0000
