"""Pixels in, class vectors out: one pure program that other JAX code can call, jit, vmap and shard.

    encoder = load_encoder("default")
    encoding = jax.jit(type(encoder).__call__)(encoder, images, sizes)
    descriptors = encoder.describe(encoding.class_vectors)

An `Encoder` is a pytree: the network's arrays and the whitening are its leaves, everything else is static. METHOD 2 is
the recipe; `cwf_jax.ops` is its mathematics.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Real, Shaped

from cwf_jax import protocol as protocols
from cwf_jax.models.class_names import ClassList
from cwf_jax.models.network import CamNetwork, Preprocessing
from cwf_jax.ops import aggregation, cams, pooling, resizing, weighting, whitening
from cwf_jax.ops.axes import check_axes

__all__ = ["Activations", "Encoder", "EncoderSettings", "Encoding", "encode", "most_probable"]


class Encoding(NamedTuple):
  """What an image is indexed by.

  Attributes:
    class_vectors: [b n k], raw and of unit length; zero where a class's map is empty.
    class_ids: [b n], the classes of the vectors, the most probable first.
    probabilities: [b c], of all classes.
  """

  class_vectors: Float[Array, "b n k"]
  class_ids: Int[Array, "b n"]
  probabilities: Float[Array, "b c"]


class Activations(NamedTuple):
  """One forward pass, float32, for pooling methods of one's own.

  Attributes:
    features: [b i j k], X, >= 0, zero outside the image.
    cam_features: [b i j d], A, >= 0, zero outside the image; a coarser map is resized to the features' cells.
    mask: [b i j], the cells inside the image.
    probabilities: [b c].
    taps: other maps that were asked for by name.
    logits: [b c], which order the classes where probabilities are rounded to zero.
  """

  features: Float[Array, "b i j k"]
  cam_features: Float[Array, "b i j d"]
  mask: Bool[Array, "b i j"]
  probabilities: Float[Array, "b c"]
  taps: dict[str, Array]
  logits: Float[Array, "b c"]


CHANGED = "changed"
"""The name of weights that were loaded and then replaced; there is no checkpoint of them."""

Images = Real[Array | np.ndarray, "b h w 3"]
SizesArray = Int[Array | np.ndarray, "b 2"]
Sizes = SizesArray | Sequence[Sequence[Any]]
"""(height, width) of each image, as an array or as lists or tuples of whole numbers."""


CAM_FEATURES = "cam_features"
"""In place of a tap's name: the map that CAMs are made of."""


@dataclasses.dataclass(frozen=True)
class EncoderSettings:
  """What is static in an encoder; hashable, so that it can be part of a compiled program's key.

  Attributes:
    protocol: sizes, number of classes, the query's box rule.
    preprocessing: of the network, changed by the protocol where it says so.
    tap: the name of the feature map X; `CAM_FEATURES` for the map A that CAMs are made of.
    dtype: of the network's convolutions, "float32" or "bfloat16"; from the CAMs on all is float32.
    classes: the names of the classes.
    weights: the name under which the weights were loaded.
    weights_sha256: the hash of the parameters.
    weights_folder: where they lie, or None for random ones.
    is_random: the weights are seeded random ones: classes mean nothing.
    fingerprint: names what a descriptor depends on; see `protocol.fingerprint`.
    reliable_names: whether the network's class names can mostly be believed.
  """

  protocol: protocols.Protocol
  preprocessing: Preprocessing
  tap: str
  dtype: str
  classes: ClassList
  weights: str
  weights_sha256: str
  weights_folder: str | None
  is_random: bool
  fingerprint: str
  reliable_names: bool = False

  @property
  def class_note(self) -> str:
    """One line for people where the names of classes should not be believed; empty where they can be."""
    if self.is_random:
      return "the weights are random, so the names of classes mean nothing here: read scores and places, not names"
    if not self.reliable_names:
      return f"the network {self.weights} often names things wrongly: read scores and places, not the names of classes"
    return ""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Encoder:
  """Network, whitening and settings as one pytree; every method is pure and can be jitted.

  Attributes:
    network: a module of `cwf_jax.models`.
    whitening: the checkpoint's own, or None.
    settings: the static part.
    cell_whitening: of single cells of the features, for matching places (METHOD 4b), or None.

  Example:
    >>> from cwf_jax import load_encoder
    >>> encoder = load_encoder("random:vgg16_cam_quarter", image_size=64, num_classes=2)
    >>> images, sizes = np.zeros((1, 64, 96, 3), np.uint8), np.array([[64, 80]])
    >>> encoding = jax.jit(Encoder.__call__)(encoder, images, sizes)
    >>> encoding.class_vectors.shape, encoder.describe(encoding.class_vectors).shape
    ((1, 2, 128), (1, 128))
  """

  network: CamNetwork
  whitening: whitening.Whitening | None
  settings: EncoderSettings = dataclasses.field(metadata={"static": True})
  cell_whitening: whitening.Whitening | None = None

  @property
  def feature_channels(self) -> int:
    """K, channels of the feature map and dimensions of a raw class vector."""
    if self.settings.tap == CAM_FEATURES:
      return self.network.class_weights.shape[0]
    return self.network.config.feature_channels

  def __repr__(self) -> str:
    settings, whitening = self.settings, self.whitening
    parts = {
      "weights": repr(settings.weights),
      "sha256": settings.weights_sha256[:12],
      "image_size": settings.protocol.image_size,
      "classes": len(settings.classes),
      "summed": settings.protocol.num_classes,
      "dimensions": self.feature_channels if whitening is None else np.shape(whitening.projection)[-1],
      "whitened": whitening is not None,
      "dtype": settings.dtype,
    }
    return f"Encoder({type(self.network).__name__}, {', '.join(f'{name}={value}' for name, value in parts.items())})"

  def __call__(self, images: Images, sizes: Sizes) -> Encoding:
    """Encodes images by their own most probable classes.

    Args:
      images: RGB, 0 to 255, each at the upper left of its canvas; what lies outside is ignored. They are uint8; floats
        are taken too, and have a gradient.
      sizes: (height, width) of each image in its canvas, at least 16 pixels a side; an array, a list or a tuple.

    Raises:
      ValueError: when it is traced: a wrong rank, unequal batches, no image, sizes of a type that cannot count the canvas's
        pixels; where their values are known, also sizes that are not those of an image in its canvas; a NumPy array of
        floats up to 1, which a caller forgot to multiply by 255.
    """
    return self.encode(images, sizes, self.settings.protocol.num_classes)

  def encode(self, images: Images, sizes: Sizes, num_classes: int, listed: tuple[int, ...] = ()) -> Encoding:
    """As a call, with the `num_classes` most probable classes of each image, and after them the `listed` ones.

    Args:
      images: as in a call.
      sizes: as in a call.
      num_classes: 0 or more; all there are, if they are fewer.
      listed: ids of classes, the same for every image; one that is among the most probable comes twice.

    Raises:
      ValueError: as a call; and when it is traced, a negative number of classes or a class that the network has not.
    """
    known = len(self.settings.classes)
    if num_classes < 0 or any(not 0 <= class_id < known for class_id in listed):
      raise ValueError(f"classes are counted from 0 and listed from 0 to {known - 1}; found {num_classes} and {listed}")
    activations = self.activate(images, sizes)
    class_ids = most_probable(activations, num_classes)
    if listed:
      every = jnp.broadcast_to(jnp.asarray(listed, class_ids.dtype), (class_ids.shape[0], len(listed)))
      class_ids = jnp.concatenate([class_ids, every], axis=1)
    class_vectors = self.pool_classes(activations, class_ids)
    return Encoding(class_vectors, class_ids, activations.probabilities)

  def activate(self, images: Images, sizes: Sizes, taps: tuple[str, ...] = ()) -> Activations:
    """One forward pass, in the dtype of the settings; what it returns is float32.

    Args:
      images: as in a call.
      sizes: as in a call.
      taps: names of further maps of the network to return.

    Raises:
      ValueError: as a call; and when it is traced, the network has no tap of such a name: the message lists those it has.
    """
    if isinstance(images, np.ndarray):
      protocols.check_pixel_range(images)
    return self._activate(images, _to_array(sizes), taps)

  @check_axes()
  def _activate(self, images: Images, sizes: SizesArray, taps: tuple[str, ...]) -> Activations:
    tap = self.settings.tap
    sizes = _check_sizes(images, sizes)
    with jax.named_scope("network"):
      pixels = self.settings.preprocessing.apply(jnp.asarray(images), jnp.dtype(self.settings.dtype))
      named = () if tap == CAM_FEATURES else (tap,)
      output = self.network(pixels, sizes, tuple(dict.fromkeys((*named, *taps))))
    kept = {name: values.astype(jnp.float32) for name, values in output.taps.items()}
    cam_features = output.cam_features.astype(jnp.float32)
    features = cam_features if tap == CAM_FEATURES else kept[tap]
    finer = features.shape[1] // output.mask.shape[1]
    return Activations(
      features=features,
      cam_features=resizing.enlarge(cam_features, output.mask, finer),
      mask=resizing.enlarge_mask(output.mask, finer),
      probabilities=jax.nn.softmax(output.logits),
      taps={name: kept[name] for name in taps},
      logits=output.logits,
    )

  def classify(self, images: Images, sizes: Sizes, num_classes: int) -> Int[Array, "b n"]:
    """The `num_classes` most probable classes of each image, the most probable first.

    Args:
      images: as in a call.
      sizes: as in a call.
      num_classes: 0 or more; all there are, if they are fewer.
    """
    return most_probable(self.activate(images, sizes), num_classes)

  def compute_cams(
    self,
    activations: Activations,
    class_ids: Int[Array, "b n"],
    cut: Bool[Array, "b i j"] | None = None,
  ) -> Float[Array, "b i j n"]:
    """The activation maps of the given classes (METHOD eq. 1).

    Args:
      activations: of `activate`.
      class_ids: the classes of each image.
      cut: the cells that count, a query's box; the whole image if None.

    Returns:
      Maps in [0, 1], the maximum of each 1 inside the cut, zero outside it; all zeros without a positive value.
    """
    class_weights = jnp.moveaxis(self.network.class_weights[:, class_ids], 0, 1)
    return cams.compute_cams(activations.cam_features, class_weights, _cut(activations, cut))

  def pool_classes(
    self,
    activations: Activations,
    class_ids: Int[Array, "b n"],
    cut: Bool[Array, "b i j"] | None = None,
  ) -> Float[Array, "b n k"]:
    """Pools the vectors of the given classes (METHOD eq. 1 to 4).

    Args:
      activations: of `activate`.
      class_ids: the classes of each image.
      cut: the cells that count, a query's box; the whole image if None. Channel weights are those of the cut.

    Returns:
      Unit vectors, zero where a class's map is empty inside the cut.
    """
    mask = _cut(activations, cut)
    maps = self.compute_cams(activations, class_ids, cut)
    channel_weights = weighting.compute_channel_weights(activations.features, mask)
    return pooling.pool_class_vectors(activations.features, maps, channel_weights, mask)

  def whiten(
    self, class_vectors: Float[Array | np.ndarray, "... k"], whitening_: whitening.Whitening | None = None
  ) -> Float[Array, "... d"]:
    """Whitens with the whitening given, else with the encoder's own, else leaves the vectors as they are.

    Args:
      class_vectors: unit rows; a zero row stays zero.
      whitening_: of vectors of k channels; the encoder's own if None.

    Returns:
      Unit rows, of k dimensions where there is no whitening.
    """
    chosen = self.whitening if whitening_ is None else whitening_
    vectors = jnp.asarray(class_vectors)
    return vectors if chosen is None else whitening.apply_whitening(chosen, vectors)

  def describe(
    self, class_vectors: Float[Array | np.ndarray, "b n k"], whitening: whitening.Whitening | None = None
  ) -> Float[Array, "b d"]:
    """Whitens and aggregates class vectors into descriptors (METHOD 2.4 and 2.5).

    Args:
      class_vectors: raw, unit rows; zero where a class's map is empty.
      whitening: as in `whiten`.

    Returns:
      Unit rows; zero where all vectors are.
    """
    return aggregation.aggregate(self.whiten(class_vectors, whitening))

  def replace(self, **changes) -> "Encoder":
    """A copy with other `network` or `whitening`; see `dataclasses.replace`.

    With another network its weights are called `CHANGED`, and so is its fingerprint: what it indexes is found by it alone.
    Saved as a checkpoint (`models.checkpoint.save_checkpoint`) and loaded, it has a name of its own.
    """
    if "network" in changes and "settings" not in changes:
      names = dict.fromkeys(("weights", "weights_sha256", "fingerprint"), CHANGED)
      changes["settings"] = dataclasses.replace(self.settings, weights_folder=None, **names)
    return dataclasses.replace(self, **changes)


@jax.named_scope("most_probable")
def most_probable(activations: Activations, num_classes: int) -> Int[Array, "b n"]:
  """The most probable classes of each image, the most probable first.

  Args:
    activations: of `Encoder.activate`; their logits are compared.
    num_classes: 0 or more; all there are, if they are fewer.
  """
  logits = activations.logits  # probabilities that are rounded to zero would come in the order of the classes
  # a stable sort, which is cut among devices with its batch; XLA gathers the whole of it for a top_k
  return jnp.argsort(logits, axis=-1, stable=True, descending=True)[:, :num_classes]


def _to_array(sizes: Sizes) -> Shaped[Array | np.ndarray, "..."]:
  """An array of lists or tuples, on the host where the numbers are known, so that they are checked."""
  if not isinstance(sizes, (list, tuple)):
    return sizes
  is_traced = any(isinstance(number, jax.core.Tracer) for number in jax.tree.leaves(sizes))
  try:
    return jnp.asarray(sizes) if is_traced else np.asarray(sizes)
  except (TypeError, ValueError):  # rows of several lengths
    raise ValueError(f"sizes [b 2] are (height, width) of each image; found {sizes}") from None


def _check_sizes(images: Images, sizes: SizesArray) -> Int[Array, "b 2"]:
  canvas = tuple(images.shape[1:3])
  if not jnp.issubdtype(sizes.dtype, jnp.integer):
    raise ValueError(f"sizes [b 2] are whole numbers of pixels; found {sizes.dtype}")
  if jnp.iinfo(sizes.dtype).max < max(canvas):
    raise ValueError(f"sizes [b 2] are {sizes.dtype}, too short for the canvas's {canvas[0]}x{canvas[1]} pixels: use int32")
  if not isinstance(sizes, jax.core.Tracer):
    known = np.asarray(sizes)
    wrong = known[((known < protocols.CELL) | (known > canvas)).any(1)]
    if len(wrong):
      raise ValueError(
        f"sizes [b 2] are (height, width), at least {protocols.CELL} and at most the canvas's {canvas[0]}x{canvas[1]}; "
        f"found {tuple(wrong[0].tolist())} in {len(wrong)} of {len(known)} images"
      )
  return jnp.asarray(sizes, jnp.int32)


def _cut(activations: Activations, cut: Bool[Array, "b i j"] | None) -> Bool[Array, "b i j"]:
  return activations.mask if cut is None else activations.mask & cut


encode = jax.jit(Encoder.encode, static_argnames=("num_classes", "listed"))
"""`Encoder.encode`, compiled once for each canvas and number of classes: indexing and search run the same program."""
