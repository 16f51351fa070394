"""What an index holds, and what it should hold."""

import functools

import numpy as np

from cwf_jax.encoder import encode
from cwf_jax.images.canvases import fit_image, stack
from cwf_jax.images.decoding import decode_image
from cwf_jax.index.schema import to_array
from cwf_jax.index.store import open_index
from cwf_jax.indexing import build

build_index = functools.partial(build.build_index, batch_size=2)
"""The default is for larger images: it would mostly compute empty places here."""


def rows_of(index):
  table = open_index(index).take(np.arange(len(open_index(index))), ["id", "descriptor"])
  return dict(zip(table["id"].to_pylist(), to_array(table["descriptor"]), strict=True))


def describe_directly(encoder, path, whitening=None):
  fitted = fit_image(decode_image(path), encoder.settings.protocol)
  encoding = encode(encoder, *stack([fitted], fitted.canvas, 1), num_classes=encoder.settings.protocol.num_classes)
  return np.asarray(encoder.describe(encoding.class_vectors, whitening))[0]
