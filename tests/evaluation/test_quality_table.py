"""The table's rows and cells, and what is told below it."""

import numpy as np

from cwf_jax.evaluation.bootstrap import Interval
from cwf_jax.evaluation.comparison import BEST, REFERENCE, Measured
from cwf_jax.evaluation.pooling import OFA, OWN, PLAIN, WHITENED, Fit, Key
from cwf_jax.evaluation.quality_table import Compared, format_oddities, format_table
from cwf_jax.ops.whitening import Whitening

FIT = Fit(Whitening(np.zeros(9), np.zeros((9, 4))), 12, 0)


def _compared(own=False, less=None, fits=None, **odd):
  values = {"raw": 0.1, "crow": 0.25, "ofa64": 0.31, BEST: 0.5}
  variants = (PLAIN, WHITENED) if fits is None else (PLAIN,)
  kinds = [Key(name, variant) for name in values for variant in variants]
  kinds += [Key(name, OWN) for name in ("ofa64", BEST)] if own else []
  dimensions = {PLAIN: 9, WHITENED: 4, OWN: 7}
  measured = {
    key: Measured(values[key.system], np.zeros(3), dimensions[key.variant], *odd.get(key.system, (0, 0))) for key in kinds
  }
  return Compared(measured, less or {}, {PLAIN: 1, WHITENED: 16, OWN: 4}, fits or dict.fromkeys(("raw", "crow", OFA), FIT))


def test_a_row_for_each_weights_and_system():
  less = {
    Key("ofa64", WHITENED): {
      "raw": Interval(0.21, 0.1, 0.3), "crow": Interval(-0.0001, -0.2, 0.2), REFERENCE: Interval(-0.1, -0.2, -0.05),
    },
    Key("ofa64", OWN): {"raw": Interval(1, 1, 1)},
    Key("ofa64", PLAIN): {"raw": Interval(9, 9, 9)},
  }  # fmt: skip
  table = format_table({"random": _compared(), "mine": _compared(own=True, less=less)}, "mAP", "random")
  told = "| -0.100 [-0.200, -0.050] | +0.210 [+0.100, +0.300] | +0.000 [-0.200, +0.200] |"
  columns = "| less random, whitened | less raw, whitened | less CroW, whitened |"
  assert table.splitlines() == [
    f"| weights | system | not whitened | whitened (dimensions) {columns}",
    "|---|---|---|---|---|---|---|",
    "| random | raw | 0.100 | 0.100 (4) |  |  |  |",
    "| random | CroW | 0.250 | 0.250 (4) |  |  |  |",
    "| random | OfA, 64 classes | 0.310 | 0.310 (4) |  |  |  |",
    "| random | OfA, best | 0.500, 1 class | 0.500 (4), 16 classes |  |  |  |",
    "| mine | raw | 0.100 | 0.100 (4) |  |  |  |",
    "| mine | CroW | 0.250 | 0.250 (4) |  |  |  |",
    f"| mine | OfA, 64 classes | 0.310 | 0.310 (4) {told}",
    "| mine | OfA, best | 0.500, 1 class | 0.500 (4), 16 classes |  |  |  |",
    "| mine | OfA, 64 classes, whitened, own |  | 0.310 (7) |  | +1.000 [+1.000, +1.000] |  |",
    "| mine | OfA, best, whitened, own |  | 0.500 (7), 4 classes |  |  |  |",
  ]


def test_without_a_whitening_and_with_both_kinds_of_differences():
  less = {Key("ofa64", PLAIN): {"raw": Interval(1, 1, 1)}}
  plain = format_table({"w": _compared(less=less, fits={})}, "N-S", None, (PLAIN,)).splitlines()
  assert plain[0].endswith("| less -, not whitened | less raw, not whitened | less CroW, not whitened |")
  assert plain[4] == "| w | OfA, 64 classes | 0.31 | - |  | +1.00 [+1.00, +1.00] |  |"
  both = format_table({"w": _compared(own=True, less=less)}, "N-S", "x", (PLAIN, WHITENED)).splitlines()
  assert {line.count("|") for line in both} == {11}
  assert both[4] == "| w | OfA, 64 classes | 0.31 | 0.31 (4) |  | +1.00 [+1.00, +1.00] |  |  |  |  |"


def test_oddities():
  assert format_oddities({"w": _compared()}) == "Zero or not finite: no descriptor, no vector."
  odd = _compared(raw=(3, 0), ofa64=(0, 2), fits={"raw": FIT._replace(left_out=5), OFA: Fit(None, 2, 1)})
  assert format_oddities({"w": _compared(), "v": odd}) == (
    "Zero or not finite: v, raw: 5 of 17 vectors left out of the whitening; v, ofa: 1 of 3 vectors left out of the whitening; "
    "v, ofa: no whitening, its 2 vectors are too few or all alike; v, raw, not whitened: 3 zero, 0 not finite; "
    "v, ofa64, not whitened: 0 zero, 2 not finite."
  )
