"""Answers with their reasons: what each class, or after expansion each first answer, gave to the score."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Share:
  """A part of a score.

  Attributes:
    name: of a class, or the id of an image that the query was expanded with.
    share: what it gave; the shares of an answer add up to its score.
    class_id: of a class; None for an image, and for what is not told apart.
  """

  name: str
  share: float
  class_id: int | None = None


@dataclasses.dataclass(frozen=True)
class Result:
  """One answer.

  Attributes:
    rank: 1 for the best.
    id: of the image, in the index.
    path: absolute, where the image was when it was indexed.
    score: cosine, at most 1.
    classes: what the query's classes gave, the largest shares first, then "(other classes)"; empty after expansion.
    expanded_from: after expansion, what the images that the query was expanded with gave; empty without.
    lacked: how many of the query's classes the image holds no vector of; None for an offline search, which needs none.
  """

  rank: int
  id: str
  path: str
  score: float
  classes: tuple[Share, ...] = ()
  expanded_from: tuple[Share, ...] = ()
  lacked: int | None = None

  def to_json(self) -> dict:
    """Plain values under the names of the command line's JSON."""
    values = {"rank": self.rank, "id": self.id, "path": self.path, "score": self.score}
    if self.expanded_from:
      values["from"] = [{"id": part.name, "share": part.share} for part in self.expanded_from]
    else:
      values["classes"] = [{"name": part.name, "share": part.share} for part in self.classes]
    return values if self.lacked is None else values | {"lacked": self.lacked}


def largest_shares(
  given: Sequence[tuple[str, int | None]], shares: np.ndarray, score: float, count: int, others: str
) -> tuple[Share, ...]:
  """The `count` largest of the shares, and one under the name `others` that makes the sum exactly the score.

  Args:
    given: the name of each share's giver, and its class id if it is a class.
    shares: [m].
    score: of the answer.
    count: shares told apart.
    others: what the rest is called.
  """
  order = np.argsort(-shares, kind="stable")[:count]
  listed = [Share(given[place][0], float(shares[place]), given[place][1]) for place in order]
  rest = score - sum(part.share for part in listed)
  return (*listed, Share(others, rest)) if len(given) > count or not listed else tuple(listed)
