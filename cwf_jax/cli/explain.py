"""`--mode=explain`: what the network recognizes in a photograph, or why two photographs are similar."""

import json
import os

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=explain --query=tower.jpg --figure=tower-classes.png
  python main.py --mode=explain --query=tower.jpg --box=120,40,480,600 --top=12
  python main.py --mode=explain --query=tower.jpg --against=b.jpg --index=my.index --figure=pair.pdf

Shows the most probable classes: how probable they are, and where in the photograph (the box around
the largest region above 20 % of a class's map; JSON has 1, 10, 20, 30 and 40 %, and each class's
share in the descriptor). With --against: the places that match and the classes that both show; JSON
has the match boxes, and each class's share of the score. With --index, weights, sizes and whitening
are the index's own, and the score is that of a search.
"""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  text = flags.DEFINE_string
  text("query", None, "the photograph", flag_values=values)
  text("box", None, "left,top,right,bottom in pixels: explain this part of the query", flag_values=values)
  text("against", None, "another photograph: explain why the two are similar", flag_values=values)
  flags.DEFINE_integer("top", 6, "number of classes, at most those that a descriptor sums", lower_bound=1, flag_values=values)
  text("figure", None, "a picture of it: a file that ends in .png, .jpg, .pdf or .svg", flag_values=values)
  flags.DEFINE_boolean(
    "maps", False, "with --against: the picture shows activation maps, too; without, it always does", flag_values=values
  )
  flags.DEFINE_enum("format", "table", ["table", "json"], "a table, or one JSON object", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the reasons to standard output, and the picture if one is asked for."""
  query, against, figure = (values[flag].value for flag in ("query", "against", "figure"))
  if not query:
    raise CallError("--mode=explain needs --query=FILE; --mode=explain --help shows examples")
  from cwf_jax.cli.boxes import parse_box
  from cwf_jax.retrieval.explanation import compare, explain

  box = None if values["box"].value is None else parse_box(values["box"].value)
  if figure:
    from cwf_jax.figures.files import check_figure_path

    check_figure_path(figure, [path for path in (query, against) if path])
  encoder = _choose_encoder(values)
  names, top = tuple(printable(path) for path in (query, against) if path), values["top"].value
  if against:
    reasons = compare(encoder, query, against, box)
    text = _format_comparison(reasons, names)
    content = {"query": query, "box": reasons.first.box, "against": against, **_comparison_to_json(reasons, top)}
  else:
    reasons = explain(encoder, query, box, top)
    text = _format_explanation(reasons, names[0])
    content = {"query": query, "box": reasons.box, "classes": _explanation_to_json(reasons)}
  note = encoder.settings.class_note
  if values["format"].value == "json":
    print(json.dumps(content | ({"weights": encoder.settings.weights, "note": note} if note else {})))
  else:
    print("\n".join([text, *([f"note: {note}"] if note else [])]))
  if figure:
    _save(reasons, names, figure, (f"Note: {note}.",) if note else (), values["maps"].value)
    console.say(f"figure: {printable(figure)}")
  return 0


def _choose_encoder(values: flags.FlagValues):
  from cwf_jax.cli.encoders import agreeing_encoder, make_encoder

  if not values["index"].value:
    return make_encoder(values)
  from cwf_jax.index.store import open_index
  from cwf_jax.retrieval.searcher import Searcher

  index = open_index(values["index"].value)
  return Searcher(index, agreeing_encoder(values, index)).encoder


def _save(reasons, names: tuple[str, ...], path: str, notes: tuple[str, ...], maps: bool) -> None:
  from cwf_jax.figures.files import save_figure
  from cwf_jax.figures.reasons import draw_comparison, draw_explanation

  short = tuple(os.path.basename(name) for name in names)
  names = short if len(set(short)) == len(names) else names
  if len(names) == 1:
    save_figure(draw_explanation(reasons, names[0], notes), path)
  else:
    save_figure(draw_comparison(reasons, names, notes, maps), path)


def _format_explanation(reasons, name: str) -> str:
  from cwf_jax.retrieval.reasons import per_cent

  width = max(len("class"), *(len(class_map.name) for class_map in reasons.classes))
  lines = [f"query {name}: its most probable classes", f"      {'class':<{width}}  probability  where"]
  for rank, class_map in enumerate(reasons.classes, 1):
    where = "nowhere: its map is empty" if class_map.box is None else _format_box(class_map.box)
    lines.append(f"{rank:4d}  {class_map.name:<{width}}  {per_cent(class_map.probability):>11}  {where}")
  return "\n".join(lines)


def _format_comparison(reasons, names: tuple[str, ...]) -> str:
  from cwf_jax.retrieval.reasons import explain_places

  lines = [str(reasons)]
  boxes = (reasons.match.query_box, reasons.match.answer_box) if reasons.match.is_evidence else (None, None)
  for name, box in zip(names, boxes, strict=True):
    lines.append(f"  {name}" + (f": the places lie in the box {_format_box(box)}" if box else ""))
  return "\n".join([*lines, f"note: {explain_places()}"])


def _format_box(box) -> str:
  return ",".join(f"{side:.0f}" for side in box)


def _explanation_to_json(reasons) -> list[dict]:
  from cwf_jax.ops.regions import THRESHOLDS

  classes = []
  for class_map, share in zip(reasons.classes, reasons.shares, strict=True):
    pairs = zip(THRESHOLDS, class_map.regions, strict=True)
    regions = [{"threshold": threshold, "box": list(box)} for threshold, box in pairs if box]
    values = {"name": class_map.name, "probability": class_map.probability, "share": share, "regions": regions}
    classes.append(values)
  return classes


def _comparison_to_json(reasons, top: int) -> dict:
  def side(shares) -> dict:
    classes = [{"name": name, "share": share} for name, share in shares[:top]]
    if len(shares) > top:
      classes.append({"name": "(other classes)", "share": reasons.score - sum(part["share"] for part in classes)})
    return {"classes": classes}

  return {
    "score": reasons.score,
    "match": reasons.match.to_json(),
    "common_classes": [one.to_json() for one in reasons.common_classes],
    "sides": [side(reasons.first.shares), side(reasons.second.shares)],
  }
