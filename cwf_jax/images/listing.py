"""Which images a folder or a list file names, and under which ids.

An image's id is its POSIX path relative to the folder, or to the list's folder. Links to files are followed for their
content; links to folders are not followed, so a walk always ends.
"""

import dataclasses
import os
import stat
from pathlib import Path

from cwf_jax.errors import InputError, printable, reason_of
from cwf_jax.images.decoding import EXTENSIONS

LIST_EXTENSIONS = frozenset((".txt", ".lst", ".list"))
"""The endings of a list file: one path a line, relative to the list's folder; blank lines and lines after # are left out."""


@dataclasses.dataclass(frozen=True)
class Listing:
  """The images found.

  Attributes:
    root: the absolute folder that the ids are relative to.
    ids: sorted, each once.
    skipped: (name, reason) of what was named or found and has no id.
    unread_folders: ids' beginnings under which nothing could be listed: what an index holds there is not gone.
  """

  root: str
  ids: tuple[str, ...]
  skipped: tuple[tuple[str, str], ...] = ()
  unread_folders: tuple[str, ...] = ()

  def path(self, image_id: str) -> str:
    """The absolute path of an image."""
    return os.path.normpath(os.path.join(self.root, image_id))


def list_images(source: str | os.PathLike) -> Listing:
  """Finds the images of a folder (with all folders below it) or of a list file.

  Raises:
    InputError: there is no such path, it is neither a folder nor a list, it cannot be read, or it names no image.
  """
  path = Path(source)
  try:
    mode = os.stat(path).st_mode
  except (FileNotFoundError, NotADirectoryError):
    raise InputError(f"there is no file or folder {printable(path)}") from None
  except (OSError, ValueError) as error:  # a zero byte is a ValueError
    raise InputError(f"{printable(path)[:200]} cannot be read: {reason_of(error)}") from None
  if stat.S_ISDIR(mode):
    listing = _walk(path)
    wanted = f"no file in it ends in {', '.join(sorted(EXTENSIONS))}"
  elif path.suffix.lower() in LIST_EXTENSIONS:
    listing = _read_list(path)
    wanted = "it names no file"
  else:
    raise InputError(f"{printable(path)} is neither a folder nor a list of paths (a file that ends in .txt, .lst or .list)")
  if not listing.ids and not listing.skipped:
    raise InputError(f"there are no images in {printable(path)}: {wanted}")
  return listing


def is_list(source: str | os.PathLike) -> bool:
  """Whether the path looks like a folder or a list of images, rather than an image."""
  path = Path(source)
  return path.is_dir() or path.suffix.lower() in LIST_EXTENSIONS


def _walk(root: Path) -> Listing:
  root = _absolute(root)
  ids, skipped, unread = [], [], []

  def note(error: OSError) -> None:
    folder = _id_of(error.filename, root)
    skipped.append((printable(folder) + "/", f"the folder cannot be read: {error.strerror}"))
    unread.append("" if folder == "." else folder + "/")

  for folder, _, names in os.walk(root, onerror=note):
    for name in names:
      if os.path.splitext(name)[1].lower() not in EXTENSIONS:
        continue
      _sort_out(_id_of(os.path.join(folder, name), root), ids, skipped)
  return Listing(root, tuple(sorted(ids)), tuple(sorted(skipped)), tuple(unread))


def _read_list(path: Path) -> Listing:
  root = _absolute(path.parent)
  try:
    # `splitlines` would split at characters that a name may hold.
    lines = path.read_text(encoding="utf-8-sig", errors="surrogateescape").split("\n")
  except OSError as error:
    raise InputError(f"the list {printable(path)} cannot be read: {error.strerror}") from None
  ids, skipped = [], []
  for line in dict.fromkeys(line.strip(" \t") for line in lines):
    if "\0" in line:
      raise InputError(f"{printable(path)} is not a list of paths in UTF-8: it holds zero bytes")
    if line and not line.startswith("#"):
      _sort_out(_id_of(os.path.join(root, line), root), ids, skipped)
  return Listing(root, tuple(sorted(set(ids))), tuple(sorted(set(skipped))))


def _absolute(folder: Path) -> str:
  """Without `..`, which is taken as it is written, links or not: the same words name the same root."""
  try:
    os.fspath(folder.absolute()).encode()
  except UnicodeEncodeError:
    raise InputError(f"the name of {printable(folder)} is not UTF-8; rename it, or make a link to it") from None
  return os.path.abspath(folder)


def _id_of(path: str, root: str) -> str:
  return Path(os.path.relpath(path, root)).as_posix()


def _sort_out(image_id: str, ids: list[str], skipped: list[tuple[str, str]]) -> None:
  try:
    image_id.encode()
  except UnicodeEncodeError:
    skipped.append((printable(image_id), "the name is not UTF-8"))
  else:
    ids.append(image_id)
