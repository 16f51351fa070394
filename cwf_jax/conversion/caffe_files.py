"""Reads Caffe's .caffemodel, a NetParameter of protocol buffers.

The few fields that hold weights are declared here, so neither Caffe nor its schema is needed. Layers of the old kind (V1,
field 2) and of the new one (field 100) are read. Values are declared as bytes, which packed numbers are on the wire, so that
they are taken as they lie, without a Python number each.
"""

import functools
import math
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.sources import Source, Weight
from cwf_jax.conversion.tables import CAFFE
from cwf_jax.errors import printable

_CONVOLUTION, _LINEAR = ("Convolution", 4), ("InnerProduct", 14)
"""The types of layers that are read: their names, and their numbers in the old kind."""

_INT32, _INT64, _UINT32, _STRING, _BYTES, _MESSAGE = 5, 3, 13, 9, 12, 11
"""Types of fields, by their numbers in descriptor.proto."""

_SCHEMA: dict[str, tuple[tuple[str, int, int | str, bool], ...]] = {
  "BlobShape": (("dim", 1, _INT64, True),),
  "Blob": (
    *((name, number, _INT32, False) for number, name in enumerate(("num", "channels", "height", "width"), 1)),
    ("data", 5, _BYTES, False),
    ("shape", 7, "BlobShape", False),
    ("double_data", 8, _BYTES, False),
  ),
  "ConvolutionParameter": (("group", 5, _UINT32, False),),
  "V1Layer": (
    ("name", 4, _STRING, False),
    ("type", 5, _INT32, False),
    ("blobs", 6, "Blob", True),
    ("convolution_param", 10, "ConvolutionParameter", False),
  ),
  "Layer": (
    ("name", 1, _STRING, False),
    ("type", 2, _STRING, False),
    ("blobs", 7, "Blob", True),
    ("convolution_param", 106, "ConvolutionParameter", False),
  ),
  "Net": (("layers", 2, "V1Layer", True), ("layer", 100, "Layer", True)),
}
"""Messages by name: (field, number, type or message, whether it is repeated)."""


def read_caffe(path: Path) -> Source:
  """Reads the layers with weights of a .caffemodel.

  Raises:
    ConversionError: it is damaged, or holds no layers with weights.
  """
  net = _net_class()()
  try:
    net.ParseFromString(path.read_bytes())
  except (message.DecodeError, ValueError) as error:
    raise ConversionError(f"{printable(path)} cannot be read, it is a damaged Caffe model: {error}") from None
  layers: dict[str, dict[str, Weight]] = {}
  unlisted, problems = [], []
  for layer in (*net.layers, *net.layer):
    for place, blob in enumerate(layer.blobs):
      where = f"{layer.name}/{place}"
      try:
        weight = _to_weight(blob, layer, place, where)
      except ConversionError as error:
        problems.append(f"{printable(where)} {error}")
        continue
      kind = ("kernel", "bias")[place] if place < 2 and layer.type in (*_CONVOLUTION, *_LINEAR) else str(place)
      if kind in layers.get(layer.name, {}):
        unlisted.append(weight)
      else:
        layers.setdefault(layer.name, {})[kind] = weight
  if not layers:
    raise ConversionError(f"{printable(path)} is a Caffe model without weights, or damaged")
  return Source(printable(path), CAFFE, layers, unlisted=tuple(unlisted), problems=tuple(problems), may_lack_biases=True)


@functools.cache
def _net_class() -> type[message.Message]:
  """The class of NetParameter, built from `_SCHEMA`."""
  file = descriptor_pb2.FileDescriptorProto(name="cwf_jax_caffe.proto", package="cwf_jax_caffe", syntax="proto2")
  for name, fields in _SCHEMA.items():
    built = file.message_type.add(name=name)
    for field, number, kind, is_repeated in fields:
      declared = built.field.add(name=field, number=number, label=3 if is_repeated else 1)
      declared.type = _MESSAGE if isinstance(kind, str) else kind
      if isinstance(kind, str):
        declared.type_name = f".cwf_jax_caffe.{kind}"
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName("cwf_jax_caffe.Net"))


def _to_weight(blob: Any, layer: Any, place: int, where: str) -> Weight:
  """A blob as a weight: [out in rows columns] or [out in], where the old form adds leading sides of 1.

  Raises:
    ConversionError: its values do not fill its shape.
  """
  content, dtype = (blob.double_data, "<f8") if blob.double_data else (blob.data, "<f4")
  shape = tuple(blob.shape.dim) or (blob.num, blob.channels, blob.height, blob.width)
  if min(shape) < 0 or math.prod(shape) * np.dtype(dtype).itemsize != len(content):
    raise ConversionError(f"holds {len(content)} bytes, which are not the values of {shape}")
  array, is_kernel = np.frombuffer(content, dtype), place == 0
  if layer.type in _CONVOLUTION and is_kernel:
    groups = max(1, layer.convolution_param.group)
    return Weight(where, array.reshape(shape), "oihw" if len(shape) == 4 else "", groups=groups)
  rank = 2 if layer.type in _LINEAR and is_kernel else 1
  while len(shape) > rank and shape[0] == 1:
    shape = shape[1:]
  return Weight(where, array.reshape(shape), "oi" if rank == 2 and len(shape) == 2 else "", is_channels_first=True)
