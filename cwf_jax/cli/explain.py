"""`--mode=explain`: what the network sees in a photograph, or what made the score of two."""

import json
import os

from absl import flags

from cwf_jax.cli.call import CallError
from cwf_jax.cli.notes import RANDOM_NOTE
from cwf_jax.errors import printable

EXAMPLES = """
  python main.py --mode=explain --query=tower.jpg --figure=tower-classes.png
  python main.py --mode=explain --query=tower.jpg --box=120,40,480,600 --top=12
  python main.py --mode=explain --query=tower.jpg --against=b.jpg --index=my.index --figure=pair.pdf

Shows the most probable classes: how probable they are, where in the photograph (the box around the
largest region above 1, 10, 20, 30 and 40 % of a class's map), and their shares in the descriptor.
With --against: what each class and each place gave to the score of the two. With --index, weights,
sizes and whitening are the index's own, and the score is that of a search.
"""


def define_flags(values: flags.FlagValues) -> None:
  """The flags of this mode."""
  text = flags.DEFINE_string
  text("query", None, "the photograph", flag_values=values)
  text("box", None, "left,top,right,bottom in pixels: explain this part of the query", flag_values=values)
  text("against", None, "another photograph: explain the score of the two", flag_values=values)
  flags.DEFINE_integer("top", 6, "classes told, at most those that a descriptor sums", lower_bound=1, flag_values=values)
  text("figure", None, "a picture of it: a file that ends in .png, .jpg, .pdf or .svg", flag_values=values)
  flags.DEFINE_enum("format", "table", ["table", "json"], "a table, or one JSON object", flag_values=values)


def run(values: flags.FlagValues, console) -> int:
  """Runs the mode: the reasons to standard output, and the picture if one is asked for."""
  query, against, figure = (values[flag].value for flag in ("query", "against", "figure"))
  if not query:
    raise CallError("--mode=explain needs --query=FILE; --mode=explain --help shows examples")
  from cwf_jax.cli.boxes import parse_box
  from cwf_jax.explanation import compare, explain

  box = None if values["box"].value is None else parse_box(values["box"].value)
  if figure:
    from cwf_jax.figures.files import check_figure_path

    check_figure_path(figure, [path for path in (query, against) if path])
  encoder = _choose_encoder(values)
  note = RANDOM_NOTE if encoder.settings.is_random else ""
  names = tuple(printable(path) for path in (query, against) if path)
  if against:
    reasons = compare(encoder, query, against, box)
    text = _format_comparison(reasons, names, values["top"].value)
    found = {"query": query, "box": box, "against": against, **_comparison_to_json(reasons, values["top"].value)}
  else:
    reasons = explain(encoder, query, box, values["top"].value)
    text = _format_explanation(reasons, names[0])
    found = {"query": query, "box": box, "classes": [_reason_to_json(reason) for reason in reasons.classes]}
  if values["format"].value == "json":
    print(json.dumps(found | ({"weights": encoder.settings.weights, "note": note} if note else {})))
  else:
    print("\n".join([text, *([f"note: {note}"] if note else [])]))
  if figure:
    _save(reasons, names, figure, (f"Note: {note}.",) if note else ())
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


def _save(reasons, names: tuple[str, ...], path: str, notes: tuple[str, ...]) -> None:
  from cwf_jax.figures.files import save_figure
  from cwf_jax.figures.reasons import draw_comparison, draw_explanation

  short = tuple(os.path.basename(name) for name in names)
  names = short if len(set(short)) == len(names) else names
  if len(names) == 1:
    save_figure(draw_explanation(reasons, names[0], notes), path)
  else:
    save_figure(draw_comparison(reasons, names, notes), path)


def _format_explanation(reasons, name: str) -> str:
  from cwf_jax.ops.regions import THRESHOLDS

  width = max(len("class"), *(len(reason.name) for reason in reasons.classes))
  lines = [f"query {name}: its most probable classes; the shares of all {reasons.num_summed} in the descriptor add up to 1"]
  lines.append(f"      {'class':<{width}}  probability   share")
  for place, reason in enumerate(reasons.classes, 1):
    lines.append(f"{place:4d}  {reason.name:<{width}}  {reason.probability:11.4f}  {reason.share:z6.4f}")
    boxes = [
      f"{100 * threshold:g} %: {_box(region)}" for threshold, region in zip(THRESHOLDS, reason.regions, strict=True) if region
    ]
    lines.append("      regions above " + "; ".join(boxes) if boxes else "      seen nowhere: its map is empty")
  return "\n".join(lines)


def _format_comparison(reasons, names: tuple[str, ...], top: int) -> str:
  lines = [f"score {reasons.score:z.4f} of {names[0]} and {names[1]}, each by its own classes"]
  for side, name in zip((reasons.first, reasons.second), names, strict=True):
    parts = [f"{one} {share:z.4f}" for one, share in side.classes[:top]]
    rest = sum(share for _, share in side.classes[top:])
    parts += [f"other classes {rest:z.4f}"] if len(side.classes) > top else []
    lines.append(f"  {name}")
    lines.append(f"    classes: {', '.join(parts)}")
    lines.append(f"    places: the most in the box {_box(side.region)}" if side.region else "    places: none gave anything")
  return "\n".join(lines)


def _box(box) -> str:
  return ",".join(f"{side:.0f}" for side in box)


def _reason_to_json(reason) -> dict:
  from cwf_jax.ops.regions import THRESHOLDS

  regions = [
    {"threshold": threshold, "box": list(region)}
    for threshold, region in zip(THRESHOLDS, reason.regions, strict=True)
    if region
  ]
  return {"name": reason.name, "probability": reason.probability, "share": reason.share, "regions": regions}


def _comparison_to_json(reasons, top: int) -> dict:
  def side(one) -> dict:
    listed = [{"name": name, "share": share} for name, share in one.classes[:top]]
    if len(one.classes) > top:
      listed.append({"name": "(other classes)", "share": reasons.score - sum(part["share"] for part in listed)})
    return {"classes": listed, "region": list(one.region) if one.region else None}

  return {"score": reasons.score, "sides": [side(reasons.first), side(reasons.second)]}
