"""An encoder from weights by name, and the one that an index has recorded.

    encoder = load_encoder("default")
    encoder = load_encoder("random:vgg16_cam", protocol="reference", dtype="bfloat16")
"""

import dataclasses
import os

import jax
import jax.numpy as jnp

from cwf_jax import protocol as protocols
from cwf_jax.encoder import Encoder, EncoderSettings
from cwf_jax.errors import InputError
from cwf_jax.models import checkpoint
from cwf_jax.ops.whitening import Whitening


def load_encoder(
  weights: str | checkpoint.LoadedNetwork = "default",
  protocol: str | protocols.Protocol = "paper",
  dtype: str | None = None,
  image_size: int | None = None,
  num_classes: int = 64,
) -> Encoder:
  """Builds an encoder from weights by name, or from weights that are loaded already.

  Args:
    weights: "default", a checkpoint's name or folder, "random:NETWORK" (seeded), or what `models.checkpoint.load_weights`
      gave.
    protocol: "paper", "reference", or a `Protocol` of one's own (then `image_size` and `num_classes` are its own, and
      its sizes are made such as the network takes).
    dtype: of the convolutions, "float32" or "bfloat16"; None means float32 on a CPU and bfloat16 on accelerators.
    image_size: the shorter side in pixels; None means the checkpoint's own.
    num_classes: the classes summed into a descriptor; all the network has, if they are fewer.

  Raises:
    InputError: no such weights, a damaged checkpoint, no such protocol, or a size or number that no protocol has.

  Example:
    >>> encoder = load_encoder("default", protocol="reference", image_size=360)
    >>> encoder.settings.protocol.resized(768, 1024)
    (360, 512)
  """
  loaded = weights if isinstance(weights, checkpoint.LoadedNetwork) else checkpoint.load_weights(weights)
  config = loaded.network.config
  if isinstance(protocol, str):
    protocol = protocols.Protocol.preset(
      protocol, config.image_size if image_size is None else image_size, min(num_classes, config.num_classes)
    )
  protocol = protocol.for_network(config.size_multiple)
  preprocessing = config.preprocessing
  if protocol.reversed_means:
    preprocessing = preprocessing.with_means_reversed()
  settings = EncoderSettings(
    protocol=protocol,
    preprocessing=preprocessing,
    tap=config.feature_tap,
    dtype=dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"),
    classes=loaded.classes,
    weights=loaded.name,
    weights_sha256=loaded.sha256,
    weights_folder=loaded.folder,
    is_random=loaded.is_random,
    fingerprint=protocols.fingerprint(loaded.sha256, dataclasses.asdict(preprocessing), config.feature_tap, protocol),
  )
  own = None
  if loaded.whitening is not None:
    own = Whitening(**{name: jnp.asarray(array) for name, array in loaded.whitening.items()})
  return Encoder(loaded.network, own, settings)


def load_recorded_encoder(
  recorder: str, weights: str, weights_folder: str | None, protocol: dict, fingerprint: str, dtype: str | None = None
) -> Encoder:
  """The encoder whose identity an index, or whatever else `recorder` names, has recorded.

  Weights whose folder is gone are looked for by their name: those that come with the package lie elsewhere on another machine.

  Args:
    recorder: what holds the record, as messages name it: "the index photographs.index".
    weights: the recorded name.
    weights_folder: the recorded folder, or None for random weights.
    protocol: the recorded settings, of `Protocol.to_json`.
    fingerprint: the recorded one, which the encoder must have.
    dtype: as in `load_encoder`.

  Raises:
    InputError: the weights are not there any more, or are others than those recorded; the message names both.
  """
  settings = protocols.Protocol.from_json(protocol)
  moved = weights_folder is not None and not os.path.exists(weights_folder) and checkpoint.find_named(weights) is not None
  try:
    encoder = load_encoder(weights if moved else weights_folder or weights, settings, dtype)
  except InputError as error:
    raise InputError(f"{recorder} was made with the weights {weights}, which cannot be loaded: {error}") from None
  if encoder.settings.fingerprint != fingerprint:
    raise InputError(
      f"{recorder} was made by the encoder {fingerprint[:12]}, but {weights} now makes {encoder.settings.fingerprint[:12]}: "
      "the weights or the package have changed; index the images again into a new folder"
    )
  return encoder
