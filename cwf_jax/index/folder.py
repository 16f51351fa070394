"""The folder of an index: what lies in it, who may write to it, and what Lance's errors mean."""

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from cwf_jax.errors import InputError, renamed
from cwf_jax.files import holding

DATA = "images.lance"
"""The data set's name in the folder."""


class IndexFolderError(InputError):
  """The folder is not an index, is damaged, or is written by another run."""


def is_index(folder: str | os.PathLike) -> bool:
  """Whether an index was ever created in this folder; not where a run was killed before its first commit."""
  data = Path(folder) / DATA
  return any((data / "_versions").glob("*.manifest")) or any((data / "data").glob("*"))


def check_place(folder: str | os.PathLike) -> Path:
  """Whether a new index can be made here, or an index is here already; nothing is written.

  Raises:
    IndexFolderError: it is a file, or a folder that holds something else.
  """
  path = check_name(folder)
  try:
    names = sorted(os.listdir(path))
  except FileNotFoundError:
    return path
  except NotADirectoryError:
    raise IndexFolderError(f"{path} is a file; --index names a folder") from None
  others = [name for name in names if name not in (DATA, "snapshots", ".lock") and not name.startswith("whitening-")]
  if others and DATA not in names:
    raise IndexFolderError(f"{path} is neither empty nor an index of cwf_jax: it holds {', '.join(others[:3])}")
  return path


def check_name(folder: str | os.PathLike) -> Path:
  """The path, if Lance can take it: in UTF-8 and without control characters."""
  name = os.fspath(folder)
  if any(character < " " or "\ud800" <= character <= "\udfff" for character in os.path.abspath(name)):
    raise IndexFolderError(f"the name of the index {name!r} holds what Lance cannot take; choose another")
  return Path(folder)


@contextlib.contextmanager
def writing(folder: str | os.PathLike) -> Iterator[None]:
  """Holds the right to write to the index; the folder is made if it is not there.

  The lock goes with its process, however that ends.

  Raises:
    IndexFolderError: another run holds it, or no index can be here.
  """
  path = check_place(folder)
  with contextlib.ExitStack() as stack:
    try:
      taken = IndexFolderError(f"{path} is being written by another run; wait for its end and try again")
      stack.enter_context(holding(path, taken))
    except (FileExistsError, NotADirectoryError):
      raise IndexFolderError(f"{path} cannot be a folder: a part of its path is a file") from None
    except OSError as error:
      raise renamed(error, f"the index {path} cannot be written") from None
    yield


@contextlib.contextmanager
def reading_from(folder: Path) -> Iterator[None]:
  """Turns whatever is wrong with a data set that is read into an `IndexFolderError` of one line."""
  try:
    yield
  except IndexFolderError:
    raise
  except InputError as error:
    raise IndexFolderError(f"{folder} cannot be used: {error}") from None
  except BaseException as error:
    _check_is_of_lance(error)
    raise IndexFolderError(f"the index {folder} is damaged: {_reason(error)}") from error


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
  """Turns what Lance raises when a commit fails into an `OSError` of one line; the index is as it was before."""
  try:
    yield
  except InputError:
    raise
  except BaseException as error:
    _check_is_of_lance(error)
    raise OSError(f"the index {folder} cannot be written: {_reason(error)}") from error


def _check_is_of_lance(error: BaseException) -> None:
  """Raises again what is none of Lance's; and a Ctrl-C, which Lance makes an error of when it comes while it reads."""
  if re.search(r"(^|: )KeyboardInterrupt(:|$)", str(error)):
    raise KeyboardInterrupt from error
  # A panic of its Rust code is no `Exception`.
  known = isinstance(error, (OSError, ValueError, RuntimeError, KeyError, TypeError))
  if not known and type(error).__name__ != "PanicException":
    raise error


def _reason(error: BaseException) -> str:
  """The first line of Lance's message without its place in Lance's source."""
  lines = str(error).strip().splitlines() or [type(error).__name__]
  words = re.sub(r"(External error|LanceError\(\w+\)|Generic LocalFileSystem error): ", "", lines[0])
  return re.sub(r",? ?/\S+\.rs:\d+(:\d+)?", "", words)[:200]
