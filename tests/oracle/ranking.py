"""METHOD 2.6, 4.1, 2b.17 and 2b.18: ranking, query expansion, alpha-QE and DBA."""

import math

import numpy as np

from tests.oracle.encoding import normalize


def score(queries, database) -> np.ndarray:
  """Inner products."""
  queries, database = np.asarray(queries, np.float64), np.asarray(database, np.float64)
  result = np.zeros((len(queries), len(database)))
  for q in range(len(queries)):
    for n in range(len(database)):
      result[q, n] = (queries[q] * database[n]).sum()
  return result


def order(scores, k: int) -> np.ndarray:
  """The k best rows of each query: by score, descending; of equal ones the first row; NaN last."""
  rows = []
  for row in np.asarray(scores, np.float64):
    keys = [(1, 0.0, n) if math.isnan(value) else (0, -value, n) for n, value in enumerate(row)]
    rows.append([n for _, _, n in sorted(keys)][:k])
  return np.array(rows, int).reshape(len(rows), min(k, np.shape(scores)[1]))


def expand_query(descriptors, rows, n: int, queries=None) -> np.ndarray:
  """The l2-normalized sum of the top n descriptors, and of the query's own where it is given."""
  descriptors = np.asarray(descriptors, np.float64)
  result = np.zeros((len(rows), descriptors.shape[1]))
  for q in range(len(rows)):
    for row in rows[q][:n]:
      result[q] += descriptors[row]
    if queries is not None:
      result[q] += np.asarray(queries[q], np.float64)
  return normalize(result)


def expand_query_by_scores(queries, descriptors, rows, scores, n: int, alpha: float) -> np.ndarray:
  """`l2(q + sum over the top n of max(s_j, 0)^alpha x_j)`; what does not score above zero is left out, also if alpha is 0."""
  queries, descriptors = np.asarray(queries, np.float64), np.asarray(descriptors, np.float64)
  result = queries.copy()
  for q in range(len(queries)):
    for row, found in list(zip(rows[q], scores[q], strict=True))[:n]:
      if found > 0:
        result[q] += float(found) ** alpha * descriptors[row]
  return normalize(result)


def augment_database(database, neighbors: int, alpha: float) -> np.ndarray:
  """The same for every row with its own neighbors, itself excluded (weight 1); a zero row stays zero."""
  database = np.asarray(database, np.float64)
  scores = score(database, database)
  result = np.zeros_like(database)
  for n in range(len(database)):
    if any(database[n]):
      others = [row for row in range(len(database)) if row != n]
      others = [others[place] for place in order(scores[n : n + 1, others], neighbors)[0]] if others else []
      own = scores[n : n + 1, others]
      result[n] = expand_query_by_scores(database[n : n + 1], database, [others], own, neighbors, alpha)[0]
  return result


def share_classes(class_vectors, answers) -> np.ndarray:
  """Of each answer's score what each class gave: `q_c . d / |sum_c q_c|`."""
  class_vectors, answers = np.asarray(class_vectors, np.float64), np.asarray(answers, np.float64)
  result = np.zeros((len(answers), answers.shape[1], class_vectors.shape[1]))
  for q in range(len(answers)):
    length = math.sqrt((class_vectors[q].sum(0) ** 2).sum())
    for r in range(answers.shape[1]):
      for c in range(class_vectors.shape[1]):
        result[q, r, c] = (class_vectors[q, c] * answers[q, r]).sum() / (length or 1.0)
  return result
