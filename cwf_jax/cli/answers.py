"""A query's answers as a table for people, or as one line of JSON for programs."""

import json
import textwrap

from cwf_jax.errors import printable
from cwf_jax.retrieval.reasons import describe_common_classes, describe_places, explain_places, per_cent

MEANINGS = {
  "offline": "each image by its own classes",
  "online": "every image by the classes of the query",
  "fixed": "every image by the classes given",
}
_ID_WIDTH, _LINE_WIDTH = 40, 118
_QUERY_CLASSES = 10


def format_answers(form: str, name: str, query, results: list, searcher, *, aggregation: str, matched: bool) -> str:
  """The answers to one query.

  Args:
    form: "table" or "json".
    name: of the query.
    query: of `Searcher.encode`.
    results: its answers.
    searcher: that found them.
    aggregation: of the search.
    matched: whether matching places were looked for.
  """
  format_as = format_table if form == "table" else _format_json
  return format_as(name, query, results, searcher, aggregation, matched)


def format_table(name: str, query, results: list, searcher, aggregation: str, matched: bool) -> str:
  """Answers as aligned columns: rank, score, id, and the reasons; a long id has its reasons on the next line."""
  settings, count = searcher.encoder.settings, len(searcher.index)
  where = "" if query.photograph.box is None else f" in the box {','.join(f'{side:g}' for side in query.photograph.box)}"
  images = f"{count} photograph{'' if count == 1 else 's'}, most similar first"
  system = searcher.index.settings.system
  meaning = MEANINGS[aggregation] if system == "ofa" else f"by {system}"
  lines = [f"query {printable(name)}{where}: {aggregation} search of {images}, {meaning}"]
  classes = query.list_classes(settings.classes.names, 3)
  shown = ", ".join(f"{class_name} {per_cent(probability)}" for class_name, probability in classes)
  lines += [f"it shows: {shown}"] if shown else []
  if not results:
    return "\n".join([*lines, "nothing in this index is that similar", ""])
  ids = [printable(result.id) for result in results]
  width = max(min(max(map(len, ids)), _ID_WIDTH), len("image"))
  lines.append(f"rank   score  {'image':<{width}}  why")
  for result, image_id in zip(results, ids, strict=True):
    head = f"{result.rank:4d}  {result.score:z6.4f}  {image_id:<{width}}"
    reasons = [describe_places(result.match)] if matched else []
    reasons.append(describe_common_classes(result.common_classes))
    reasons += [f"lacks {result.lacked} of the classes"] if result.lacked else []
    wrapped = _wrap("; ".join(reasons), width)
    indent = " " * (16 + width)
    lines += [f"{head}  {wrapped[0]}"] if len(image_id) <= width else [head, indent + wrapped[0]]
    lines += [indent + line for line in wrapped[1:]]
  lines += [f"note: {explain_places()}"] if matched else []
  lines += [f"note: {settings.class_note}"] if settings.class_note else []
  return "\n".join([*lines, ""])


def _format_json(name: str, query, results: list, searcher, aggregation: str, matched: bool) -> str:
  settings, box = searcher.encoder.settings, query.photograph.box
  classes = query.list_classes(settings.classes.names, _QUERY_CLASSES)
  content = {"query": name}
  content |= {} if box is None else {"box": list(box)}
  content |= {"aggregation": aggregation, "index_version": searcher.index.version}
  content["query_classes"] = [{"name": class_name, "probability": probability} for class_name, probability in classes]
  unreadable = {"match": None} if matched else {}
  content["results"] = [result.to_json() | (unreadable if result.match is None else {}) for result in results]
  if settings.class_note:
    content |= {"weights": settings.weights, "note": settings.class_note}
  return json.dumps(content)


def _wrap(text: str, width: int) -> list[str]:
  joined = text.replace(" %", "\N{NO-BREAK SPACE}%")
  lines = textwrap.wrap(joined, _LINE_WIDTH - 16 - width, break_long_words=False, break_on_hyphens=False)
  return [line.replace("\N{NO-BREAK SPACE}", " ") for line in lines]
