"""A comparison of weights and systems as one Markdown table, with what is odd about it below."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from cwf_jax.evaluation.bootstrap import Interval
from cwf_jax.evaluation.comparison import BEST, REFERENCE, Measured
from cwf_jax.evaluation.pooling import OFA, OWN, PLAIN, WHITENED, Fit, Key

SYSTEMS = {"raw": "raw", "crow": "CroW", f"{OFA}64": "OfA, 64 classes", BEST: "OfA, best"}
"""The rows of some weights, and what they are called."""

FORMATS = {"mAP": "z.3f", "N-S": "z.2f"}
"""How the values of a metric are written; z: no minus before a zero."""


class Compared(NamedTuple):
  """What is known of some weights.

  Attributes:
    measured: of each kind of descriptor.
    less: the differences of each kind, of `compare`.
    best_counts: of each variant, the number of classes that `BEST` sums.
    fits: the whitenings of `WHITENED`.
  """

  measured: Mapping[Key, Measured]
  less: Mapping[Key, Mapping[str, Interval]]
  best_counts: Mapping[str, int]
  fits: Mapping[str, Fit]


def format_table(
  compared: Mapping[str, Compared], metric: str, reference: str | None, shown: Sequence[str] = (WHITENED,)
) -> str:
  """The table: a row for each weights and system, in the order given.

  Args:
    compared: by the weights' name.
    metric: of `FORMATS`.
    reference: the weights that the others are compared with; None where there are none.
    shown: variants whose differences are told, three columns each; `OWN` goes with `WHITENED`.
  """
  columns = [f"{name}, {variant}" for variant in shown for name in (f"less {reference or '-'}", "less raw", "less CroW")]
  header = ("weights", "system", PLAIN, f"{WHITENED} (dimensions)", *columns)
  lines = [f"| {' | '.join(header)} |", "|---" * len(header) + "|"]
  for weights, one in compared.items():
    lines += ["| " + " | ".join((weights, *cells)) + " |" for cells in _list_rows(one, shown, FORMATS[metric])]
  return "\n".join(lines)


def format_oddities(compared: Mapping[str, Compared]) -> str:
  """Descriptors, and vectors that a whitening would have been fitted on, that are zero or not finite; whitenings not fitted."""
  odd = []
  for weights, one in compared.items():
    for system, fit in one.fits.items():
      if fit.left_out:
        odd.append(f"{weights}, {system}: {fit.left_out} of {fit.left_out + fit.vectors} vectors left out of the whitening")
      if fit.whitening is None:
        odd.append(f"{weights}, {system}: no whitening, its {fit.vectors} vectors are too few or all alike")
    for key, measured in one.measured.items():
      if measured.zero or measured.not_finite:
        odd.append(f"{weights}, {key.system}, {key.variant}: {measured.zero} zero, {measured.not_finite} not finite")
  return f"Zero or not finite: {'; '.join(odd) or 'no descriptor, no vector'}."


def _list_rows(one: Compared, shown: Sequence[str], form: str) -> Iterator[tuple[str, ...]]:
  """The cells behind the weights."""
  for system, label in SYSTEMS.items():
    values = [_show_value(one, Key(system, variant), form) for variant in (PLAIN, WHITENED)]
    yield label, *values, *(cell for variant in shown for cell in _show_differences(one, Key(system, variant), form))
  for system, label in SYSTEMS.items():
    if Key(system, OWN) in one.measured:
      own = [Key(system, OWN if variant == WHITENED else "") for variant in shown]
      differences = [cell for key in own for cell in _show_differences(one, key, form)]
      yield f"{label}, {OWN}", "", _show_value(one, Key(system, OWN), form), *differences


def _show_value(one: Compared, key: Key, form: str) -> str:
  """A mean, the dimensions of what is whitened, and the number of classes where it was chosen."""
  if key not in one.measured:
    return "-"
  measured = one.measured[key]
  dimensions = "" if key.variant == PLAIN else f" ({measured.dimensions})"
  count = one.best_counts[key.variant] if key.system == BEST else 0
  classes = f", {count} class{'es' if count > 1 else ''}" if count else ""
  return f"{measured.mean:{form}}{dimensions}{classes}"


def _show_differences(one: Compared, key: Key, form: str) -> list[str]:
  """Three cells: less the reference, raw and CroW."""
  found = [one.less.get(key, {}).get(name) for name in (REFERENCE, "raw", "crow")]
  return [f"{d.difference:+{form}} [{d.low:+{form}}, {d.high:+{form}}]" if d else "" for d in found]
