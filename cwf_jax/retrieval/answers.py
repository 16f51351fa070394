"""Answers with their reasons, and the exact shares of classes, or after expansion of the first answers, in a score."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from cwf_jax.retrieval.reasons import CommonClass, Match


@dataclasses.dataclass(frozen=True)
class Share:
  """A part of a score.

  Attributes:
    name: of a class, or the id of an image that the query was expanded with.
    share: what it gave; the shares of an answer add up to its score.
  """

  name: str
  share: float


@dataclasses.dataclass(frozen=True)
class Result:
  """One answer.

  Attributes:
    rank: 1 for the best.
    id: of the image, in the index.
    path: absolute, where the image was when it was indexed.
    score: cosine, at most 1.
    common_classes: what both the query and the answer show, the surest first; empty where no class stands out.
    match: their matching places; None where they were not asked for, or the answer's file cannot be read.
    classes: the exact shares of the query's classes in the score, the largest first, then "(other classes)"; empty after
      expansion. They are nearly equal by construction, so a large share is no reason.
    expanded_from: after expansion, the shares of the images that the query was expanded with; empty without.
    lacked: in an online or fixed search, the number of the query's classes whose vectors the image does not hold; else None.
  """

  rank: int
  id: str
  path: str
  score: float
  common_classes: tuple[CommonClass, ...] = ()
  match: Match | None = None
  classes: tuple[Share, ...] = ()
  expanded_from: tuple[Share, ...] = ()
  lacked: int | None = None

  def to_json(self) -> dict:
    """Plain values under the names of the command line's JSON."""
    values = {"rank": self.rank, "id": self.id, "path": self.path, "score": self.score}
    if self.match is not None:
      values["match"] = self.match.to_json()
    if self.lacked is not None:
      values["lacked"] = self.lacked
    values["common_classes"] = [one.to_json() for one in self.common_classes]
    values["classes"] = [{"name": part.name, "share": part.share} for part in self.classes]
    if self.expanded_from:
      values["expanded_from"] = [{"id": part.name, "share": part.share} for part in self.expanded_from]
    return values


def filter_results(
  results: Sequence[Result], min_score: float | None = None, min_places: int | None = None
) -> list[Result]:
  """Returns the answers with at least this score and this number of matching places; with min_places, one without a match is
  left out."""
  return [
    result
    for result in results
    if (min_score is None or result.score >= min_score)
    and (min_places is None or (result.match is not None and result.match.places >= min_places))
  ]


def largest_shares(
  names: Sequence[str], shares: np.ndarray, score: float, count: int, others: str
) -> tuple[Share, ...]:
  """The `count` largest of the shares, and one under the name `others` that makes the sum exactly the score.

  Args:
    names: of what each share belongs to.
    shares: [m].
    score: of the answer.
    count: shares told apart.
    others: what the rest is called.
  """
  order = np.argsort(-shares, kind="stable")[:count]
  largest = [Share(names[place], float(shares[place])) for place in order]
  rest = score - sum(part.share for part in largest)
  return (*largest, Share(others, rest)) if len(names) > count or not largest else tuple(largest)
