"""The published weights that can be fetched by name: where they are, what they are and how they are verified."""

import dataclasses
import functools
import importlib.resources
import json
import re
from collections.abc import Mapping
from typing import Any

from cwf_jax.conversion.files import ConversionError

_OPTIONAL = ("sha256", "bytes")


@dataclasses.dataclass(frozen=True)
class Entry:
  """One file of weights.

  Attributes:
    name: that it is fetched by, and of the checkpoint's folder.
    network: the registry's name.
    layout: one of `tables.LAYOUTS`, or "auto".
    source: its address.
    sha256: of the file, in hex; None where nobody has verified it yet.
    bytes: its size; None where it is not known.
    licence: of the weights.
  """

  name: str
  network: str
  layout: str
  source: str
  sha256: str | None
  bytes: int | None
  licence: str

  def __post_init__(self):
    if not re.fullmatch(r"\w[\w.-]*", self.name):
      raise ConversionError(f"a name of weights is letters, digits, '.', '_' and '-'; found {self.name!r}")
    if self.sha256 is not None:
      check_sha256(self.sha256)


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
  """The manifest that comes with the package, by name."""
  text = importlib.resources.files("cwf_jax.conversion").joinpath("manifest.json").read_text(encoding="utf-8")
  return parse_manifest(json.loads(text))


def parse_manifest(content: Any) -> Mapping[str, Entry]:
  """A manifest's entries by name.

  Raises:
    ConversionError: one is not complete, or two have the same name.
  """
  entries: dict[str, Entry] = {}
  kinds = {field.name: int if field.name == "bytes" else str for field in dataclasses.fields(Entry)}
  for place, given in enumerate(content):
    wrong = set(given) ^ set(kinds)
    wrong |= {key for key, kind in kinds.items() if key in given and not _fits(given[key], kind, key in _OPTIONAL)}
    if wrong:
      raise ConversionError(f"entry {place} of the manifest is missing, or is wrong in: {', '.join(sorted(wrong))}")
    if given["name"] in entries:
      raise ConversionError(f"the manifest has two entries named {given['name']}")
    entries[given["name"]] = Entry(**given)
  return entries


def _fits(value: Any, kind: type, is_optional: bool) -> bool:
  return type(value) is kind or (is_optional and value is None)
