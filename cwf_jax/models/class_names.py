"""The classes of a network: their WordNet ids, their names, and finding one by what a person types.

    classes = ClassList.imagenet()
    classes.resolve_all("vault, dome, 12")  # (884, 538, 12)
"""

import collections
import dataclasses
import difflib
import functools
import importlib.resources
import operator
from collections.abc import Iterable

from cwf_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class ClassList:
  """The classes that a network predicts, in the order of its outputs: a class's id is its place.

  Attributes:
    wnids: one identifier a class, all different; WordNet's for ImageNet ("n04523525").
    names: what people call it; a few classes of ImageNet share a name.
  """

  wnids: tuple[str, ...]
  names: tuple[str, ...]

  def __post_init__(self):
    if len(self.wnids) != len(self.names):
      raise InputError(f"a class list needs as many names as identifiers, not {len(self.names)} and {len(self.wnids)}")
    repeated = sorted(wnid for wnid, count in collections.Counter(self.wnids).items() if count > 1)
    if repeated:
      raise InputError(f"identifiers of classes are all different; repeated: {', '.join(repeated[:8])}")

  @classmethod
  def imagenet(cls) -> "ClassList":
    """The 1000 classes of ILSVRC 2012, in the order that every published network uses."""
    return _read_imagenet()

  @classmethod
  def numbered(cls, n: int) -> "ClassList":
    """Classes without names of their own: "class 0", "class 1" and so on."""
    return cls(tuple(str(index) for index in range(n)), tuple(f"class {index}" for index in range(n)))

  def __len__(self) -> int:
    return len(self.names)

  def resolve(self, text: str | int) -> int:
    """Finds a class by its id ("12"), its WordNet id or its name; case does not matter and an underscore is a space.

    Raises:
      InputError: there is no such class (the message names the nearest), or several have that name (it names them).
    """
    if not isinstance(text, str):
      return self._check_id(operator.index(text))
    wanted = _normalize(text)
    if wanted.lstrip("+-").isdecimal():
      return self._check_id(int(wanted))
    found = self._places.get(wanted, ())
    if len(found) == 1:
      return found[0]
    if found:
      choices = ", ".join(f"{index} ({self.wnids[index]})" for index in found)
      raise InputError(f"{len(found)} classes are named {text.strip()!r}: {choices}; give the number or the WordNet id")
    near = self._suggest(wanted)
    hint = f"; did you mean {', '.join(repr(name) for name in near)}?" if near else ""
    raise InputError(f"no class is named {text.strip()!r} among the network's {len(self)}{hint}")

  def resolve_all(self, classes: str | Iterable[str | int]) -> tuple[int, ...]:
    """Finds several classes, in the order given, each once.

    Args:
      classes: names or ids; as one string they are separated by commas.

    Raises:
      InputError: as `resolve`, or nothing was named.
    """
    items = classes.split(",") if isinstance(classes, str) else classes
    ids = [self.resolve(item) for item in items if not isinstance(item, str) or item.strip()]
    if not ids:
      raise InputError("no class was named; give names or ids, separated by commas: 'vault, dome, 12'")
    return tuple(dict.fromkeys(ids))

  @functools.cached_property
  def _places(self) -> dict[str, tuple[int, ...]]:
    """From what a person may type, normalized, to the classes that it can mean."""
    places: dict[str, tuple[int, ...]] = {}
    for index, name in enumerate(self.names):
      places[_normalize(name)] = (*places.get(_normalize(name), ()), index)
    # A WordNet id is one class only, so it wins over a name that looks like it.
    return places | {_normalize(wnid): (index,) for index, wnid in enumerate(self.wnids)}

  def _check_id(self, index: int) -> int:
    if not 0 <= index < len(self):
      raise InputError(f"no class {index}: the network's classes are 0 to {len(self) - 1}")
    return index

  def _suggest(self, wanted: str) -> list[str]:
    """Up to five names: those that hold the words, then those that are spelled alike."""
    holding = [name for name in self.names if wanted and wanted in _normalize(name)]
    known = {_normalize(name): name for name in self.names}
    alike = [known[key] for key in difflib.get_close_matches(wanted, known, n=5, cutoff=0.7)]
    return list(dict.fromkeys(holding + alike))[:5]


def _normalize(text: str) -> str:
  return " ".join(text.replace("_", " ").split()).casefold()


@functools.cache
def _read_imagenet() -> ClassList:
  text = importlib.resources.files("cwf_jax.models").joinpath("imagenet_classes.txt").read_text(encoding="utf-8")
  wnids, names = zip(*(line.split("\t") for line in text.splitlines()), strict=True)
  return ClassList(wnids, names)
