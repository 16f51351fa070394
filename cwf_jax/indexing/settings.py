"""What a new index will hold, and whether what is asked of an existing one agrees with it."""

import dataclasses
import os

import jax
import numpy as np

from cwf_jax.encoder import Encoder
from cwf_jax.errors import InputError, near
from cwf_jax.extraction.passes import encode_system, protocol_of, with_protocol
from cwf_jax.index.schema import IndexSettings, StoredClasses, WhiteningOrigin
from cwf_jax.index.store import IndexFolderError, open_index
from cwf_jax.models.class_names import ClassList
from cwf_jax.ops.whitening import Whitening
from cwf_jax.systems.settings import PRESETS, Settings, system_settings
from cwf_jax.systems.system import SYSTEMS

DEFAULT_STORED = "64"


def choose_settings(
  encoder: Encoder,
  whitening: str | None = None,
  n_pca: int | None = None,
  dimensions: int | None = None,
  store_classes: str | int | None = None,
  keep_raw: bool | None = None,
  system: str = "ofa",
  preset: str = "paper",
) -> tuple[IndexSettings, dict[str, np.ndarray] | None]:
  """The settings of a new index and the whitening's arrays; None stands for the default of each.

  Args:
    encoder: of `prepare_encoder`.
    whitening: see `build_index`, as are the others.
    preset: "paper" or "reference", for the system's settings.

  Raises:
    InputError: a value that cannot be, named with its flag.
  """
  config, own = encoder.network.config, encoder.settings
  channels, classes = encoder.feature_channels, config.num_classes
  num_vectors = 0
  if system != "ofa":
    num_vectors, channels = _count_vectors(encoder, system, preset)
    if store_classes is not None:
      raise InputError(f"--store_classes is for --system=ofa: {system} has no class vectors to store")
    store_classes = 0
  if n_pca is not None and whitening != "self":
    raise InputError("--n_pca is for --whitening=self: the classes of each image that it is fitted on")
  n_pca = 1 if n_pca is None else n_pca
  if not 1 <= n_pca <= classes:
    raise InputError(f"--n_pca is 1 to {classes}, the network's classes; found {n_pca}")
  if whitening == "self" and keep_raw is False:
    raise InputError("--whitening=self is fitted on the raw vectors and keeps them: leave --nokeep_raw out")
  origin, arrays = _choose_whitening(encoder, whitening, n_pca, system)
  if dimensions is not None:
    origin, arrays = _reduce(origin, arrays, dimensions, channels)
  stored = parse_stored(DEFAULT_STORED if store_classes is None else str(store_classes), own.classes)
  needed = [min(own.protocol.num_classes, classes), stored.count if stored.kind == "own" else 1, n_pca]
  settings = IndexSettings(
    fingerprint=own.fingerprint,
    weights=own.weights,
    weights_folder=own.weights_folder,
    weights_sha256=own.weights_sha256,
    is_random=own.is_random,
    protocol=own.protocol.to_json(),
    network_classes=classes,
    feature_channels=channels,
    dimensions=channels if arrays is None else arrays["projection"].shape[1],
    num_encoded=classes if stored.kind == "all" else min(64, classes) if num_vectors else max(needed),
    stored=stored,
    vector_type="int8",
    keep_raw=bool(keep_raw) or origin.pending,
    whitening=origin,
    system=system,
    preset=preset,
    num_vectors=num_vectors,
  )
  return settings, arrays


def prepare_encoder(encoder: Encoder, system: str) -> Encoder:
  """The encoder at the sizes of a system's images.

  Args:
    encoder: whose shorter side is the paper's; the sizes of other systems are in proportion to it (METHOD 2b).
    system: "ofa", or another one that an index can store.

  Raises:
    InputError: there is no such system, or it describes an image only for a query.
  """
  if system == "ofa":
    return encoder
  if system not in SYSTEMS or SYSTEMS[system].pool is None:
    able = ["ofa", *(name for name, one in SYSTEMS.items() if one.pool is not None)]
    why = "describes images for each query: index by ofa and search online or fixed" if system in SYSTEMS else "is unknown"
    raise InputError(f"--system={system} {why}; an index stores one of {', '.join(able)}{near(system, able)}")
  protocol = encoder.settings.protocol
  if protocol.name not in PRESETS:  # it has such sizes already
    return encoder
  settings = Settings.preset(protocol.name, {"num_classes": protocol.num_classes})
  return with_protocol(encoder, protocol_of(system, encoder, settings))


def _count_vectors(encoder: Encoder, system: str, preset: str) -> tuple[int, int]:
  """Vectors that the system makes of an image, and their dimensions."""
  height, width = encoder.settings.protocol.canvases[0]
  settings = system_settings(preset, encoder.settings.protocol.num_classes)
  images, sizes = jax.ShapeDtypeStruct((1, height, width, 3), np.uint8), jax.ShapeDtypeStruct((1, 2), np.int32)
  shapes = jax.eval_shape(lambda *given: encode_system(encoder, *given, system, settings, 1), images, sizes)
  return shapes.class_vectors.shape[1:]


def check_agreement(
  folder: str | os.PathLike,
  settings: IndexSettings,
  classes: ClassList,
  whitening: str | None,
  n_pca: int | None,
  dimensions: int | None,
  store_classes: str | int | None,
  keep_raw: bool | None,
  system: str | None = None,
) -> None:
  """Refuses what was asked for explicitly and is not so in an existing index, naming both.

  Raises:
    InputError: with every disagreement.
  """
  problems = []
  if system not in (None, settings.system):
    problems.append(f"its system is {settings.system}, not {system}")
  if whitening is not None and _source(whitening) != settings.whitening.source:
    problems.append(f"its whitening is {settings.whitening.source}, not {whitening}")
  if n_pca is not None and settings.whitening.source != "self":
    problems.append(f"its whitening is {settings.whitening.source}, which has no --n_pca={n_pca}")
  elif n_pca is not None and n_pca != settings.whitening.n_pca:
    problems.append(f"its --n_pca is {settings.whitening.n_pca}, not {n_pca}")
  if dimensions is not None and settings.whitening.source == "none":
    problems.append(f"its whitening is none, which has no --dimensions={dimensions}")
  elif dimensions not in (None, settings.whitening.dimensions or settings.dimensions):
    problems.append(f"its --dimensions is {settings.whitening.dimensions or settings.dimensions}, not {dimensions}")
  if store_classes is not None:
    asked = parse_stored(str(store_classes), classes)
    if asked != settings.stored:
      problems.append(f"it stores the vectors of these classes: {settings.stored}; not: {asked}")
  if keep_raw is not None and keep_raw != settings.keep_raw:
    problems.append(f"it {'keeps' if settings.keep_raw else 'does not keep'} raw vectors (--keep_raw)")
  if problems:
    told = "; ".join(problems)
    raise InputError(f"{os.fspath(folder)} was made with other settings: {told}. Leave the flags out, or name a new --index")


def parse_stored(text: str, classes: ClassList) -> StoredClasses:
  """Reads `--store_classes`: a number, "all", or classes by name or id, separated by commas.

  Raises:
    InputError: the number is negative, or there is no such class.
  """
  text = text.strip()
  if text == "all":
    return StoredClasses("all", len(classes))
  if text.lstrip("+-").isdecimal():
    count = int(text)
    if count < 0:
      raise InputError(f"--store_classes is 0 or more, 'all' or a list of classes; found {text}")
    return StoredClasses("own", min(count, len(classes))) if count else StoredClasses("none", 0)
  ids = classes.resolve_all(text)
  return StoredClasses("list", len(ids), ids)


def _choose_whitening(
  encoder: Encoder, asked: str | None, n_pca: int, system: str
) -> tuple[WhiteningOrigin, dict[str, np.ndarray] | None]:
  bundled = encoder.whitening if system == "ofa" else None
  if asked is None:
    asked = "none" if bundled is None else "bundled"
  if asked == "none":
    return WhiteningOrigin("none"), None
  if asked == "self":
    return WhiteningOrigin("self", n_pca=n_pca, pending=True), None
  if asked == "bundled":
    if bundled is None:
      name = encoder.settings.weights
      whose = "" if system == "ofa" else f" for {system}"
      raise InputError(f"the weights {name} come without a whitening{whose}; --whitening is none, self or an index")
    return WhiteningOrigin("bundled"), {name: np.asarray(getattr(bundled, name)) for name in ("mean", "projection")}
  try:
    other = open_index(asked)
  except IndexFolderError as error:
    raise InputError(f"--whitening is bundled, self, none or another index; found {asked}: {error}") from None
  if other.whitening is None:
    raise InputError(f"the index {asked} has no whitening to take (its own is {other.settings.whitening.source})")
  if other.settings.system != system:
    raise InputError(f"the whitening of {asked} was fitted for {other.settings.system}, not for {system}")
  if other.settings.weights_sha256 != encoder.settings.weights_sha256:
    raise InputError(
      f"the whitening of {asked} belongs to the weights {other.settings.weights}, not to {encoder.settings.weights}"
    )
  return WhiteningOrigin(_source(asked)), other.whitening


def _reduce(
  origin: WhiteningOrigin, arrays: dict[str, np.ndarray] | None, dimensions: int, channels: int
) -> tuple[WhiteningOrigin, dict[str, np.ndarray] | None]:
  """Reduces the whitening to fewer dimensions; one that is not fitted yet will be fitted to this number."""
  if origin.source == "none":
    raise InputError("--dimensions needs a whitening; found --whitening=none")
  most = channels if arrays is None else arrays["projection"].shape[1]
  if not 1 <= dimensions <= most:
    raise InputError(f"--dimensions is 1 to {most}, those of --whitening={origin.source}; found {dimensions}")
  if arrays is None:
    return dataclasses.replace(origin, dimensions=dimensions), None
  return origin, vars(Whitening(**arrays).keep_first(dimensions))


def _source(asked: str) -> str:
  return asked if asked in ("none", "self", "bundled") else os.path.abspath(asked)
