"""PCA-whitening: directions that vary together count once.

Fitting is done on the host in float64, since the small eigenvalues that whitening divides by do not survive float32;
applying is one product on the device. `Moments` takes the vectors in batches, so a collection of any size can be fitted.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cwf_jax.errors import InputError
from cwf_jax.ops.normalize import l2_normalize

EIGENVALUE_FLOOR = 1e-8
"""No eigenvalue counts as less than this part of the largest: a direction without variance is not blown up into noise."""

LEAST_VARIANCE = 1e-12
"""Unit rows whose largest eigenvalue is no more than this are all the same: it is the rounding of float32 and of the sums."""

_LEAST_EIGENVALUE = float(np.finfo(np.float32).eps) ** 2  # of a root that scikit-learn's PCA still divides by


VECTORS_PER_DIMENSION = 3
"""Vectors that a whitening is fitted on for each dimension that it keeps, at least, where it may keep fewer than all. With as
many dimensions as there are vectors, all of these become equally far from each other: the least eigenvalues are noise."""


SAME_COSINE = 0.9
"""Photographs whose vectors, less the mean of all, have a cosine of at least this count as one: copies at other qualities or
sizes, the frames of a burst. Measured on 30 photographs saved 12 times each as JPEG of qualities 60 to 93: 29 of
vgg16_cam_small and 38 of EfficientNet-Lite0 are counted."""


class TooFewVectorsError(InputError):
  """There are not more vectors than the dimensions that were asked for."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Whitening:
  """The map `x -> (x - mean) projection`; a pytree, so that in the place of an array anything may stand.

  Attributes:
    mean: [k].
    projection: [k d], the columns are eigenvectors divided by the roots of their eigenvalues, the largest first.
  """

  mean: Any
  projection: Any

  def keep_first(self, dimensions: int) -> "Whitening":
    """The PCA-whitening to fewer dimensions: the columns of the largest eigenvalues."""
    return Whitening(self.mean, self.projection[:, :dimensions])


@dataclasses.dataclass
class Moments:
  """Sums over the vectors seen so far, in float64, from which a whitening is fitted. Zero rows are left out.

  Attributes:
    count: rows seen, without zero rows.
    total: [k], their sum.
    products: [k k], the sum of their outer products.

  Example:
    >>> moments = Moments.zero(2)
    >>> moments.add(np.array([[0.6, 0.8], [0.0, 0.0]]))
    >>> moments.count, moments.total.tolist()
    (1, [0.6, 0.8])
  """

  count: int
  total: np.ndarray
  products: np.ndarray

  @classmethod
  def zero(cls, channels: int) -> "Moments":
    """Of no vectors."""
    return cls(0, np.zeros(channels), np.zeros((channels, channels)))

  def add(self, vectors: np.ndarray) -> None:
    """Takes in vectors [n k], unit rows or zero.

    Raises:
      InputError: a value is not finite.
    """
    vectors = np.asarray(vectors, np.float64)
    if not np.isfinite(vectors).all():
      raise InputError("the vectors to fit a whitening on hold values that are not finite")
    vectors = vectors[np.any(vectors != 0, axis=1)]
    self.count += len(vectors)
    self.total += vectors.sum(0)
    self.products += vectors.T @ vectors

  def fit_supported(self, most: int | None = None, floor: float = EIGENVALUE_FLOOR, distinct: float | None = None) -> Whitening:
    """The whitening of as many dimensions as the vectors bear: one for every `VECTORS_PER_DIMENSION`, at most the channels.

    Args:
      most: dimensions wanted, where they bear more.
      floor: see `fit`.
      distinct: how many distinct photographs they are of, see `count_distinct`: these differ in one direction fewer, and what
        else differs, between copies of one, is noise. None: each vector is distinct.

    Raises:
      TooFewVectorsError: they bear fewer than two (unit vectors of one dimension are all the same or opposite), or are all
        the same.
    """
    least = 2 * VECTORS_PER_DIMENSION
    if self.count < least:
      raise TooFewVectorsError(f"{self.count} vectors are too few to fit a whitening on; {least} are the least")
    dimensions = min(len(self.total), self.count // VECTORS_PER_DIMENSION, len(self.total) if most is None else most)
    if distinct is not None and distinct - 1 < dimensions:
      dimensions = round(distinct) - 1
      if dimensions < 2:
        raise TooFewVectorsError(
          f"the {self.count} vectors to fit a whitening on are of about {distinct:.0f} distinct photographs"
        )
    return self.fit(dimensions, floor)

  def fit(self, dimensions: int, floor: float = EIGENVALUE_FLOOR) -> Whitening:
    """The whitening of what was seen, reduced to `dimensions`; see `fit_whitening`.

    Args:
      dimensions: of the result, 1 to k.
      floor: no eigenvalue counts as less than this part of the largest.

    Raises:
      InputError: the dimensions are not in 1 to the channels.
      TooFewVectorsError: there are no more than `dimensions` vectors, or they do not differ.
    """
    channels = len(self.total)
    if not 1 <= dimensions <= channels:
      raise InputError(f"a whitening of vectors of {channels} channels has 1 to {channels} dimensions, not {dimensions}")
    if self.count <= dimensions:
      raise TooFewVectorsError(
        f"a whitening to {dimensions} dimensions is fitted on more than {dimensions} vectors that are not zero; "
        f"there are {self.count}"
      )
    mean = self.total / self.count
    covariance = self.products / self.count - np.outer(mean, mean)
    eigenvalues, eigenvectors = np.linalg.eigh(covariance)
    eigenvalues, eigenvectors = eigenvalues[::-1][:dimensions], eigenvectors[:, ::-1][:, :dimensions]
    largest = eigenvalues[0]
    if largest <= LEAST_VARIANCE:
      raise TooFewVectorsError(f"the {self.count} vectors to fit a whitening on are all the same")
    signs = np.sign(eigenvectors[np.abs(eigenvectors).argmax(0), np.arange(dimensions)])
    projection = eigenvectors * signs / np.sqrt(np.maximum(eigenvalues, max(floor * largest, _LEAST_EIGENVALUE)))
    return Whitening(jnp.asarray(mean, jnp.float32), jnp.asarray(projection, jnp.float32))


def count_distinct(vectors: Float[np.ndarray, "n k"]) -> float:
  """How many distinct photographs there are: each counts as one over the number of those that are the same (`SAME_COSINE`).

  Args:
    vectors: one row a photograph, of any length; zero rows do not count.

  Example:
    >>> count_distinct(np.array([[0.6, 0.8], [0.6, 0.8], [0.8, 0.6]]))
    2.0
  """
  vectors = np.asarray(vectors, np.float32)
  vectors = vectors[np.any(vectors != 0, axis=-1)]
  if not len(vectors):
    return 0.0
  vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  centered = vectors - vectors.mean(0)
  lengths = np.linalg.norm(centered, axis=1, keepdims=True)
  if lengths.max() ** 2 <= LEAST_VARIANCE:
    return 1.0
  centered /= np.maximum(lengths, np.finfo(np.float32).tiny)
  counts = [(centered[start : start + 1024] @ centered.T >= SAME_COSINE).sum(1) for start in range(0, len(centered), 1024)]
  return float((1 / np.maximum(np.concatenate(counts), 1)).sum())


def fit_whitening(vectors: Float[np.ndarray, "n k"] | Float[Array, "n k"], dimensions: int) -> Whitening:
  """Fits PCA-whitening (METHOD 2.4), in float64 on the host.

  The sign of each direction is the one that makes its component of the largest magnitude positive, so that a fit is the
  same wherever it is made. The divisor of the covariance is n (it cancels in the normalization that follows). No
  eigenvalue counts as less than `EIGENVALUE_FLOOR` of the largest.

  Args:
    vectors: unit rows; zero rows (classes without a vector) are left out.
    dimensions: of the result, 1 to k.

  Raises:
    InputError: the dimensions are not in 1 to k, or a value is not finite.
    TooFewVectorsError: there are no more than `dimensions` vectors, or they do not differ.

  Example:
    >>> vectors = np.array([[0.6, 0.8], [0.6, -0.8], [-0.6, 0.8], [-0.6, -0.8]])
    >>> print(abs(fit_whitening(vectors, dimensions=2).projection))  # 1/0.6, 1/0.8
    [[0.    1.667]
     [1.25  0.   ]]
  """
  vectors = np.asarray(vectors)
  moments = Moments.zero(vectors.shape[1])
  moments.add(vectors)
  return moments.fit(dimensions)


@jax.named_scope("apply_whitening")
def apply_whitening(whitening: Whitening, vectors: Float[Array, "... k"]) -> Float[Array, "... d"]:
  """Whitens and normalizes (METHOD 2.4).

  Args:
    whitening: of vectors of k channels, to d dimensions.
    vectors: unit rows.

  Returns:
    Unit rows; a zero row stays zero.

  Raises:
    ValueError: when it is traced: the vectors have not the channels of the whitening.

  Example:
    >>> mean, projection = jnp.array([0.5, 0.5]), jnp.array([[3.0, 0.0], [0.0, 4.0]])
    >>> whitening = Whitening(mean, projection)
    >>> print(apply_whitening(whitening, jnp.array([[1.0, 0.0], [0.0, 0.0]])))
    [[ 0.6 -0.8]
     [ 0.   0. ]]
  """
  channels = whitening.projection.shape[0]
  if vectors.shape[-1:] != (channels,):
    raise ValueError(f"apply_whitening: vectors [... k] has the shape {vectors.shape}, and the whitening's k is {channels}")
  whitened = jnp.matmul(vectors - whitening.mean, whitening.projection, precision=lax.Precision.HIGHEST)
  present = jnp.any(vectors != 0, axis=-1, keepdims=True)
  return l2_normalize(jnp.where(present, whitened, 0.0))
