"""Weights by name, an encoder from them, and the encoder that an index has recorded.

    encoder = load_encoder("default")
    encoder = load_encoder("random:vgg16_cam", protocol="reference", dtype="bfloat16")
"""

import dataclasses
import os
import pathlib
import typing
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from cwf_jax import protocol as protocols
from cwf_jax.conversion import manifest, packaged
from cwf_jax.encoder import CAM_FEATURES, Encoder, EncoderSettings
from cwf_jax.errors import InputError
from cwf_jax.models import checkpoint, registry
from cwf_jax.models.checkpoint import LoadedNetwork
from cwf_jax.ops.whitening import Whitening

DEFAULT = "efficientnet_lite0"
"""The weights that "default" stands for; every installation has them."""

NUM_CLASSES = 32
"""Classes summed into a descriptor by default; see weights/README.md. The paper and `--mode=evaluate` sum 64."""


def load_weights(name: str | os.PathLike[str] = "default", seed: int = 0) -> LoadedNetwork:
  """Finds weights by name, or takes them from a folder.

  Args:
    name: "default"; "efficientnet_lite0", "_lite1" or "_lite2"; the name of a checkpoint in the package or in
      `$CWF_JAX_HOME`; "random:NETWORK"; the path of a checkpoint's folder. A bare name is looked for first: "./NAME" is
      always a path.
    seed: of random weights.

  Raises:
    InputError: nothing has that name (the message lists the known names), or it cannot be used.
  """
  text = os.fspath(name)
  kind, separator, network_name = text.partition(":")
  if separator and kind == "random":
    return checkpoint.build_random(network_name, seed)
  if text == "default":
    return dataclasses.replace(load_weights(DEFAULT), name="default")
  if text in packaged.PACKAGES:
    return packaged.load_packaged(text)
  named = checkpoint.find_named(text)
  if named is not None:
    return checkpoint.load_checkpoint(named)
  path = pathlib.Path(text).expanduser()
  if text and path.exists():
    return checkpoint.load_checkpoint(path)
  random = (f"random:{network}" for network in registry.network_names())
  known = dict.fromkeys(("default", *packaged.PACKAGES, *checkpoint.list_named(), *random))
  raise InputError(f"no weights {text!r}: no such folder, and no such name among {', '.join(known)}{_hint(text)}")


def _hint(name: str) -> str:
  """How to get weights that are not installed."""
  if name in manifest.read_manifest():
    return f"; --mode=fetch --weights={name} downloads them, --mode=convert makes them from a file, random:{name} draws them"
  if name in registry.network_names():
    return f"; {name} comes without trained weights: name the folder of a checkpoint of it, or random:{name}"
  return ""


def load_encoder(
  weights: str | LoadedNetwork = "default",
  protocol: str | protocols.Protocol = "paper",
  dtype: str | None = None,
  image_size: int | None = None,
  num_classes: int = NUM_CLASSES,
  feature_map: str = protocols.STRIDE16,
) -> Encoder:
  """Builds an encoder from weights by name, or from weights that are loaded already.

  Args:
    weights: "default", a checkpoint's name or folder, "random:NETWORK" (seeded), or what `load_weights` returned.
    protocol: "paper", "reference", or a `Protocol` of your own (then `image_size`, `num_classes` and `feature_map` are its
      own, and its sizes are rounded to those that the network takes).
    dtype: of the convolutions, "float32" or "bfloat16"; None means float32 on a CPU and bfloat16 on accelerators.
    image_size: the shorter side in pixels; None means the checkpoint's own.
    num_classes: the classes summed into a descriptor; all the network has, if they are fewer.
    feature_map: "stride16", or "last", which no whitening of a checkpoint is for; see `Protocol`.

  Raises:
    InputError: no such weights, a damaged checkpoint, a network without classes, no such protocol, or a size or number that
      no protocol has.

  Example:
    >>> encoder = load_encoder("default", protocol="reference", image_size=360)
    >>> encoder.settings.protocol.resized(768, 1024)
    (352, 512)
  """
  loaded = weights if isinstance(weights, LoadedNetwork) else load_weights(weights)
  config = loaded.network.config
  if not config.num_classes:
    raise InputError(
      f"{loaded.name} is {loaded.network_name} without a classifier: it has no classes to encode by. Call its network and pool "
      "its taps yourself, or convert the complete file"
    )
  if isinstance(protocol, str):
    protocol = protocols.Protocol.preset(
      protocol, config.image_size if image_size is None else image_size, min(num_classes, config.num_classes)
    )
    protocol = dataclasses.replace(protocol, feature_map=feature_map)
  protocol = protocol.for_network(config.size_multiple, config.stride, config.cam_stride)
  is_last = protocol.feature_map == protocols.LAST
  tap = CAM_FEATURES if is_last else config.feature_tap
  preprocessing = config.preprocessing
  if protocol.reversed_means:
    preprocessing = preprocessing.with_means_reversed()
  settings = EncoderSettings(
    protocol=protocol,
    preprocessing=preprocessing,
    tap=tap,
    dtype=dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"),
    classes=loaded.classes,
    weights=loaded.name,
    weights_sha256=loaded.sha256,
    weights_folder=loaded.folder,
    is_random=loaded.is_random,
    fingerprint=protocols.fingerprint(loaded.sha256, dataclasses.asdict(preprocessing), tap, protocol),
    reliable_names=not loaded.is_random and loaded.metadata.get("reliable_names", True),
  )
  whitenings = (None, None) if is_last else (loaded.whitening, loaded.cell_whitening)
  whitening, cell_whitening = map(_to_whitening, whitenings)
  return Encoder(loaded.network, whitening, settings, cell_whitening)


def _to_whitening(arrays: Mapping[str, np.ndarray] | None) -> Whitening | None:
  return None if arrays is None else Whitening(**{name: jnp.asarray(array) for name, array in arrays.items()})


@typing.runtime_checkable  # annotations are checked under test
class RecordedEncoder(typing.Protocol):
  """What an index records of its encoder: the weights' name, folder (None for random ones) and sha256, and the settings."""

  weights: str
  weights_folder: str | None
  weights_sha256: str
  protocol: dict
  fingerprint: str


def load_recorded_encoder(recorder: str, recorded: RecordedEncoder) -> Encoder:
  """The encoder whose identity an index has recorded.

  The weights are those with the recorded sha256, wherever they lie: an index outlives a move of its weights and a change of
  what "default" means.

  Args:
    recorder: what holds the record, as messages name it: "the index photographs.index".
    recorded: the settings of the index.

  Raises:
    InputError: the weights are nowhere, or are others than those recorded; the message names both.
  """
  settings = protocols.Protocol.from_json(recorded.protocol)
  sha256 = recorded.weights_sha256
  known = packaged.find_packaged(sha256) or checkpoint.find_by_sha256(sha256)
  try:
    encoder = load_encoder(load_weights(known or recorded.weights_folder or recorded.weights), settings)
  except InputError as error:
    raise InputError(f"{recorder} was made with the weights {recorded.weights}, which cannot be loaded: {error}") from None
  if encoder.settings.fingerprint != recorded.fingerprint:
    raise InputError(
      f"{recorder} was made by the encoder {recorded.fingerprint[:12]}, but {recorded.weights} now makes "
      f"{encoder.settings.fingerprint[:12]}: the weights or the package have changed; index the images again into a new folder"
    )
  return encoder
