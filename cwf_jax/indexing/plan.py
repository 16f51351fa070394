"""What is to be done: which files are new, changed, unchanged or gone since the index was written."""

import dataclasses
import hashlib
import os

from cwf_jax.errors import InputError
from cwf_jax.images.decoding import UnreadableImageError, read_file
from cwf_jax.images.listing import Listing
from cwf_jax.index.store import Index, StoredFile


@dataclasses.dataclass(frozen=True)
class Plan:
  """The ids, without the run's prefix, sorted.

  Attributes:
    new: files that the index does not hold.
    changed: files whose content is not what the index was made from.
    unchanged: how many files are as they were.
    removed: ids, with the prefix, of rows whose files are gone.
  """

  new: tuple[str, ...]
  changed: tuple[str, ...]
  unchanged: int
  removed: tuple[str, ...]

  @property
  def todo(self) -> tuple[str, ...]:
    """All files to encode, sorted."""
    return tuple(sorted(self.new + self.changed))


def make_plan(listing: Listing, index: Index, prefix: str) -> Plan:
  """Compares the files of a folder with the rows of the same folder and prefix.

  A file counts as unchanged if its size and time are, or else its content is.

  Raises:
    InputError: the index holds another folder under this prefix, or one of these ids for a file of another folder.
  """
  _check_others(listing, index, prefix)
  known = index.files(listing.root, prefix)
  new, changed, unchanged = [], [], 0
  for image_id in listing.ids:
    stored = known.pop(prefix + image_id, None)
    if stored is None:
      new.append(image_id)
    elif _is_unchanged(listing.path(image_id), stored):
      unchanged += 1
    else:
      changed.append(image_id)
  unread = tuple(prefix + folder for folder in listing.unread_folders)
  removed = tuple(sorted(name for name in known if not name.startswith(unread)))
  return Plan(tuple(new), tuple(changed), unchanged, removed)


def _check_others(listing: Listing, index: Index, prefix: str) -> None:
  own = None
  for image_id, root, its_prefix in index.others(listing.root, prefix):
    if its_prefix == prefix:
      raise InputError(
        f"{index.folder} holds images of {root} under {f'the prefix {prefix}' if prefix else 'no prefix'}; "
        f"give those of {listing.root} a --prefix of their own, such as --prefix={os.path.basename(listing.root)}/"
      )
    own = {prefix + listed for listed in listing.ids} if own is None else own
    if image_id in own:
      raise InputError(
        f"{index.folder} holds {image_id} of {root} already; give the images of {listing.root} another --prefix"
      )


def _is_unchanged(path: str, stored: StoredFile) -> bool:
  try:
    found = os.stat(path)
    if found.st_size != stored.bytes:
      return False
    return found.st_mtime_ns == stored.mtime_ns or hashlib.sha256(read_file(path)).hexdigest() == stored.sha256
  except (OSError, UnreadableImageError):
    return False
