"""The one error that means: what was handed over is wrong, and the message says how to fix it. And names in a message."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable


class InputError(ValueError):
  """A wrong argument, file, flag or index: the message says what was expected, what was found, where, and what to do.

  Every package raises it or a named subclass. The command line turns it into one line on standard error and exit 2.
  """


def printable(name: str | os.PathLike) -> str:
  """A name on one line of a terminal, whatever characters it holds: those that cannot be printed are escaped."""
  return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in os.fspath(name))


def compose(name: str) -> str:
  """A name in Unicode's composed form (NFC), in which an accented letter is one character."""
  return unicodedata.normalize("NFC", name)


def near(name: str, known: Iterable[str], form: str = "{}") -> str:
  """The end of a message about a name that is none of those known, "; did you mean NAME?"; empty where none is like it.

  `form` is how the name is written, such as "--{}" for a flag.
  """
  known = list(known)
  found = difflib.get_close_matches(name, known, n=1) or difflib.get_close_matches(name.lower(), known, n=1)
  return f"; did you mean {form.format(found[0])}?" if found else ""


def reason_of(error: Exception) -> str:
  """What an error of the operating system says, without number and path; of another error its text."""
  return getattr(error, "strerror", None) or str(error)


def renamed(error: OSError, what: str) -> OSError:
  """The same error in words that name what the caller knows, in place of a temporary file: "WHAT: no space left on device"."""
  named = OSError(f"{what}: {reason_of(error)}")
  named.errno = error.errno
  return named


def brief(error: Exception) -> str:
  """The first paragraph of a library's error; for TensorStore, the operating system's reason."""
  text = " ".join(str(error).split("\n\n")[0].split()) or type(error).__name__
  failed = re.search(r"Failed to write [^:]*: ([^\[\]]+)", text)
  return failed[1].strip() if failed else text.partition(" [tensorstore_spec")[0][:300]
