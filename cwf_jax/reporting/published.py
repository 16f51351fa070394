"""The numbers that others published, to stand beside measured ones and never instead of them (METHOD 6).

Tables are in the paper's order: its table 1a, the first comparison of the slides, and further systems. The other systems'
numbers are their authors', not re-run by the paper. Where the paper's final table differs from the slides, the paper's is in
brackets.
"""

from typing import NamedTuple

OXFORD, PARIS, OXFORD_MORE, PARIS_MORE = "oxford5k", "paris6k", "oxford105k", "paris106k"


class Line(NamedTuple):
  """A row of a table.

  Attributes:
    system: as rows are called without a network: `raw+pca`, `ofa+r100+qe10`.
    title: what the table calls it.
    published: by data set, as it is printed.
    dimensions: as published, as it is printed.
    later: it cannot be run yet, whatever is there.
  """

  system: str
  title: str
  published: dict[str, str]
  dimensions: str = "512"
  later: bool = False


class Table(NamedTuple):
  """Some rows under a title."""

  title: str
  lines: tuple[Line, ...]


def _line(system: str, title: str, numbers: str, dimensions: str = "512", later: bool = False) -> Line:
  """Numbers of Oxford5k, Paris6k, Oxford105k and Paris106k, `-` for none."""
  names = (OXFORD, PARIS, OXFORD_MORE, PARIS_MORE)
  given = numbers.split("|")
  if len(given) not in (1, 2, 4):
    raise ValueError(f"{system}: numbers of one, two or four sets; found {numbers}")
  pairs = zip(names, given, strict=False)
  return Line(system, title, {name: one.strip() for name, one in pairs if one.strip() != "-"}, dimensions, later)


TABLES = (
  Table(
    "Class weighting against raw features (the paper's table 1a)",
    (
      _line("raw", "raw sum pooling", "0.396 | 0.526"),
      _line("raw_cw", "raw + channel weights", "0.420 | 0.549"),
      _line("raw+pca", "raw, whitened", "0.589 | 0.662"),
      _line("raw_cw+pca", "raw + channel weights, whitened", "0.607 | 0.685"),
      _line("ofa", "class-weighted, offline (OfA)", "0.712 | 0.799 (0.805)"),
      _line("raw@resnet50", "raw, ResNet-50", "0.389 | 0.508", "2048", True),
      _line("ofa@resnet50", "OfA, ResNet-50", "0.699 | 0.804", "512", True),
      _line("raw@densenet161", "raw, DenseNet-161", "0.339 | 0.495", "2208", True),
      _line("ofa@densenet161", "OfA, DenseNet-161", "0.695 | 0.799", "512", True),
    ),
  ),
  Table(
    "Comparison (the slides' first table)",
    (
      _line("spoc", "SPoC", "0.531 | - | 0.501 | -", "256"),
      _line("ucrow", "uCroW", "0.666 | 0.767 | 0.629 | 0.695", "256"),
      _line("crow", "CroW", "0.682 | 0.796 | 0.632 | 0.710"),
      _line("rmac", "R-MAC", "0.669 | 0.830 | 0.616 | 0.757"),
      _line("bow", "BoW of local convolutional features", "0.738 | 0.820 | 0.593 | 0.648", "25k", True),
      _line("razavian", "Razavian", "0.843 | 0.853 | - | -", "32k", True),
      _line("ona", "class-weighted, online (OnA)", "0.729 (0.736) | 0.858 (0.855) | - | -"),
      _line("ofa", "class-weighted, offline (OfA)", "0.712 | 0.799 (0.805) | 0.672 | 0.727 (0.733)"),
    ),
  ),
  Table(
    "With query expansion (QE) and re-ranking (R)",
    (
      _line("crow+qe10", "CroW, QE 10", "0.722 | 0.855 | 0.678 | 0.797", later=True),
      _line("ona+qe10", "OnA, QE 10", "0.766 (0.760) | 0.879 (0.873) | - | -", later=True),
      _line("ofa+qe10", "OfA, QE 10", "0.737 (0.730) | 0.835 (0.836) | 0.714 (0.712) | 0.777 (0.791)", later=True),
      _line("bow+r100+qe10", "BoW, R 100, QE 10", "0.788 | 0.848 | 0.651 | 0.641", "25k", True),
      _line("ona+r100+qe10", "OnA, R 100, QE 10", "0.786 (0.780) | 0.876 (0.874) | - | -", later=True),
      _line("ofa+r100+qe10", "OfA, R 100, QE 10", "0.772 (0.773) | 0.836 (0.838) | 0.744 (0.750) | 0.777 (0.780)", later=True),
      _line("rmac+r1000+qe5", "R-MAC, R 1000, QE 5", "0.770 | 0.877 | 0.726 | 0.817", later=True),
      _line("ona+r1000+qe5", "OnA, R 1000, QE 5", "0.812 (0.811) | 0.874 | - | -", later=True),
      _line("ofa+r1000+qe5", "OfA, R 1000, QE 5", "0.803 (0.801) | 0.854 (0.855) | 0.765 (0.769) | 0.778 (0.800)", later=True),
    ),
  ),
  Table(
    "Further systems",
    (
      _line("mac", "MAC", "0.564 | 0.723"),
      _line("gem", "GeM", "-"),
      _line("cwr", "class weights and regions (ours)", "-"),
      _line("fixed", "class-weighted, a fixed list (the paper's figure 5)", "0.739"),
      _line("vlad", "VLAD", "0.593 | 0.590", "128", True),
      _line("vlad-whole", "VLAD, uncompressed", "0.649 | 0.694", "", True),
      Line("codes-fc6", "neural codes, fc6", {OXFORD: "0.435", "holidays": "0.749", "ukbench": "3.43"}, "4096", True),
      Line("codes-pool5", "neural codes, pool5", {OXFORD: "0.389", "holidays": "0.690", "ukbench": "3.09"}, "", True),
      Line("codes-fc7", "neural codes, fc7", {OXFORD: "0.430", "holidays": "0.736", "ukbench": "3.39"}, "4096", True),
    ),
  ),
)
"""In the paper's order."""
