"""What is wrong with the files of a set: told in short on a terminal, and in full, name by name, in a file."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from cwf_jax.errors import printable

SHOWN = 5
"""Names that the short form lists."""

_LONGEST = 300
"""Characters of a name in the short form."""

_TOLD = 10
"""Problems that the message of an error lists."""


class Problem(NamedTuple):
  """Something that is wrong.

  Attributes:
    what: a sentence.
    names: of all files that it is about, in order; or what is wrong with each.
  """

  what: str
  names: tuple[str, ...] = ()

  def __str__(self) -> str:
    """One line: the first names, and how many there are more."""
    if not self.names:
      return self.what
    more = f" and {len(self.names) - SHOWN:,} more" if len(self.names) > SHOWN else ""
    return f"{self.what}: {', '.join(printable(name)[:_LONGEST] for name in self.names[:SHOWN])}{more}"

  def tell_all(self) -> str:
    """The sentence and, a line each, every name."""
    return "".join((f"{self.what}\n", *(f"  {printable(name)}\n" for name in self.names)))


def list_names(names: Sequence[str]) -> str:
  """The first names, for the message of an error: "a, b and more"."""
  return ", ".join(printable(name)[:100] for name in names[:SHOWN]) + (" and more" if len(names) > SHOWN else "")


def join_problems(problems: Sequence[str]) -> str:
  """The first problems of a file, for the message of an error, and how many there are more."""
  more = f"; and {len(problems) - _TOLD} problems more" if len(problems) > _TOLD else ""
  return "; ".join(problems[:_TOLD]) + more


def count_of(things: Collection, one: str, several: str) -> str:
  """How many there are: count_of(files, "file is", "files are") gives "1 file is" or "2 files are"."""
  return f"1 {one}" if len(things) == 1 else f"{len(things):,} {several}"
