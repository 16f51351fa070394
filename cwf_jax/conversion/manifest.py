"""The published weights that can be fetched by name: where they are, and what is known of each file."""

import dataclasses
import functools
import importlib.resources
import json
import re
from collections.abc import Mapping

from cwf_jax.conversion.files import ConversionError
from cwf_jax.conversion.tables import AUTO


@dataclasses.dataclass(frozen=True)
class Source:
  """One published file.

  Attributes:
    address: http, https or file; of Google Drive the page of the file.
    layout: one of `tables.LAYOUTS`, or "auto".
    license: of the weights in it.
    bytes: its size. This and each hash is None where it is not known.
    sha256: in hex, lower case; the first digits where no more is known.
    md5: in hex, lower case, as Keras publishes it.
  """

  address: str
  layout: str = AUTO
  license: str = "unknown"
  bytes: int | None = None
  sha256: str | None = None
  md5: str | None = None


@dataclasses.dataclass(frozen=True)
class Entry:
  """Weights with a name.

  Attributes:
    name: of the weights, and of the checkpoint's folder.
    network: the registry's name.
    citation: whom to cite.
    sources: files with these weights, in the order in which they are tried.
  """

  name: str
  network: str
  citation: str
  sources: tuple[Source, ...]


def check_sha256(text: str) -> str:
  """A sha256 in lower case.

  Raises:
    ConversionError: it is none.
  """
  if not re.fullmatch(r"[0-9a-fA-F]{64}", text.strip()):
    raise ConversionError(f"a sha256 is 64 digits of 0-9 and a-f; found {text!r}")
  return text.strip().lower()


@functools.cache
def read_manifest() -> Mapping[str, Entry]:
  """Reads the manifest that comes with the package; entries by name."""
  text = importlib.resources.files("cwf_jax").joinpath("weights", "manifest.json").read_text(encoding="utf-8")
  entries = (entry | {"sources": tuple(Source(**source) for source in entry["sources"])} for entry in json.loads(text))
  return {entry["name"]: Entry(**entry) for entry in entries}
