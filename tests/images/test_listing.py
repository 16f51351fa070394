"""Which files a folder or a list names, whatever their names and links, and under which ids."""

import os

import pytest

from cwf_jax.errors import InputError
from cwf_jax.images.listing import is_list, list_images


def _touch(root, *names):
  for name in names:
    path = os.path.join(os.fsencode(root), os.fsencode(name))
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "wb").close()


def test_folders_are_walked_and_endings_decide(tmp_path):
  _touch(tmp_path, "b.JPG", "a/x.jpeg", "a/b/c/y.PnG", "a.txt", "a/z", "jpg", ".jpg", "z.heic", ".hidden/h.webp", "a-b.tiff")
  listing = list_images(tmp_path)
  assert listing.ids == ("a-b.tiff", "a/b/c/y.PnG", "a/x.jpeg", "b.JPG", "z.heic")
  assert listing.root == str(tmp_path)
  assert (listing.skipped, listing.unread_folders) == ((), ())
  assert listing.path("a/x.jpeg") == str(tmp_path / "a/x.jpeg")


def test_the_root_is_the_same_however_it_is_written(tmp_path, monkeypatch):
  _touch(tmp_path, "in/a.jpg", "other/b.jpg")
  monkeypatch.chdir(tmp_path / "other")
  roots = {list_images(name).root for name in ("../in", "../in/", "../other/../in", str(tmp_path / "in"), "../in/.")}
  assert roots == {str(tmp_path / "in")}
  monkeypatch.chdir(tmp_path / "in")
  assert list_images(".").root == str(tmp_path / "in")


def test_links_count_under_their_own_names_and_no_folder_is_walked_twice(tmp_path):
  _touch(tmp_path, "real/a.jpg", "elsewhere/b.jpg", "root/in/c.jpg")
  root = tmp_path / "root"
  (root / "link.jpg").symlink_to(tmp_path / "real/a.jpg")
  (root / "dangling.jpg").symlink_to(tmp_path / "nowhere.jpg")
  (root / "itself.jpg").symlink_to(root / "itself.jpg")
  (root / "gone").symlink_to(tmp_path / "nowhere")
  (root / "album").symlink_to(tmp_path / "elsewhere")
  (root / "album.jpg").symlink_to(tmp_path / "elsewhere")
  (root / "a loop").symlink_to(root)
  (tmp_path / "elsewhere/back").symlink_to(root / "in")
  listing = list_images(root)
  assert listing.ids == ("album/b.jpg", "dangling.jpg", "in/c.jpg", "itself.jpg", "link.jpg")
  links = "a loop/, album.jpg/, album/back/ (3 in all)"
  assert listing.remarks == (
    f"left out as links to folders that are listed already: {links}",
    "left out as links that lead nowhere: gone (1 in all)",
  )
  (tmp_path / "way").symlink_to(root)
  assert list_images(tmp_path / "way").root == str(tmp_path / "way")


HIDDEN_PLACES = (
  *("@eaDir/t.jpg/THUMB_XL.jpg", ".thumbnails/t.jpg", ".Trash-1000/files/t.jpg", "#recycle/t.jpg", "$RECYCLE.BIN/t.jpg"),
  *("__MACOSX/t.jpg", "lost+found/t.jpg", ".dtrash/t.jpg", "a/._t.jpg"),
)


def test_thumbnails_and_bins_are_left_out_and_counted(tmp_path):
  _touch(tmp_path, "t.jpg", "a/t.jpg", *HIDDEN_PLACES)
  listing = list_images(tmp_path)
  assert listing.ids == ("a/t.jpg", "t.jpg") and len(listing.remarks) == 1
  kind = "hidden, thumbnails or bins"
  assert listing.remarks[0] == f"left out as {kind}: #recycle/, $RECYCLE.BIN/, .Trash-1000/, .dtrash/, ... (9 in all)"
  assert set(list_images(tmp_path, include_hidden=True).ids) == {"t.jpg", "a/t.jpg", *HIDDEN_PLACES}
  assert list_images(tmp_path / ".thumbnails").ids == ("t.jpg",)  # asked for by name


def test_patterns_leave_out_names_and_ids(tmp_path):
  _touch(tmp_path, "a/x.jpg", "a/raw/y.jpg", "b/raw/z.jpg", "b/x_small.jpg", "c.jpg")
  assert list_images(tmp_path, exclude=["raw/", "*_small.*"]).ids == ("a/x.jpg", "c.jpg")
  _touch(tmp_path, "d [1]/y.jpg", "d 1/z.jpg")
  assert "d 1/z.jpg" in list_images(tmp_path, exclude=["d [1]"]).ids
  assert "d 1/z.jpg" not in list_images(tmp_path, exclude=["./d ?"]).ids
  listing = list_images(tmp_path, exclude=["b/raw", "a/x*", "d*"])
  assert listing.ids == ("a/raw/y.jpg", "b/x_small.jpg", "c.jpg")
  assert listing.remarks == ("left out as matching --exclude: a/x.jpg, b/raw/, d 1/, d [1]/ (4 in all)",)
  (tmp_path / "list.txt").write_text("c.jpg\nb/x_small.jpg\nb/raw/z.jpg\na/raw/y.jpg\n")
  assert list_images(tmp_path / "list.txt", exclude=["*_small.*", "raw"]).ids == ("c.jpg",)
  assert list_images(tmp_path / "list.txt", exclude=["b/raw"]).ids == ("a/raw/y.jpg", "b/x_small.jpg", "c.jpg")


def test_files_of_other_kinds_are_counted_in_one_line(tmp_path):
  _touch(tmp_path, "a.jpg", "b.dng", "c.DNG", "noending", "d/e.jp2", "my.index/images.lance/x.jpg", "my.index/a.npz")
  listing = list_images(tmp_path)
  assert listing.ids == ("a.jpg",)
  assert listing.remarks == ("left out as files of other kinds: .dng, no ending, .jp2 (4 in all)",)
  with pytest.raises(InputError, match=r"no file to take ends in .*; left out as files of other kinds: .jp2"):
    list_images(tmp_path / "d")


def test_a_list_finds_names_in_the_other_form_of_unicode(tmp_path):
  composed, apart = "caf\u00e9", "cafe\u0301"
  _touch(tmp_path, f"{composed}/a.jpg", f"{apart}.jpg", f"{composed}2.jpg", f"{apart}2.jpg")
  lines = f"{apart}/a.jpg", f"{composed}.jpg", f"{apart}2.jpg", f"{composed}2.jpg", "\u00e9.jpg"
  (tmp_path / "list.txt").write_text("\n".join(lines), encoding="utf-8")
  expected = {f"{composed}/a.jpg", f"{apart}.jpg", f"{composed}2.jpg", f"{apart}2.jpg", "\u00e9.jpg"}
  assert set(list_images(tmp_path / "list.txt").ids) == expected


def test_strange_names_have_ids_and_those_that_are_not_utf8_are_skipped(tmp_path):
  names = ["new\nline.jpg", "tab\t.jpg", "it's.jpg", "#1.jpg", " .jpg", "é.jpg", "e\u0301.jpg", "\u2028.jpg", "back\\slash.jpg"]
  _touch(tmp_path, *names, b"caf\xe9.jpg", b"f\xe9/a.jpg")
  listing = list_images(tmp_path)
  assert set(listing.ids) == set(names)
  assert listing.skipped == (("caf\\udce9.jpg", "the name is not UTF-8"), ("f\\udce9/a.jpg", "the name is not UTF-8"))
  for name in listing.ids:
    assert os.path.exists(listing.path(name))
  with pytest.raises(InputError, match="is not UTF-8; rename it"):
    list_images(tmp_path / "f\udce9")


def _refuse(monkeypatch, ending):
  scandir = os.scandir

  def refusing(path):
    if os.fspath(path).endswith(ending):
      raise PermissionError(13, "Permission denied", path)
    return scandir(path)

  monkeypatch.setattr(os, "scandir", refusing)


def test_a_folder_that_cannot_be_read_is_told(tmp_path, monkeypatch):
  _touch(tmp_path, "a/x.jpg", "b/secret/y.jpg", "b/z.jpg")
  _refuse(monkeypatch, "secret")
  listing = list_images(tmp_path)
  assert listing.ids == ("a/x.jpg", "b/z.jpg")
  assert listing.skipped == (("b/secret/", "the folder cannot be read: Permission denied"),)
  assert listing.unread_folders == ("b/secret/",)


def test_a_root_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
  _touch(tmp_path, "root/x.jpg")
  _refuse(monkeypatch, "root")
  with pytest.raises(InputError, match="root cannot be read: Permission denied"):
    list_images(tmp_path / "root")


def _list(tmp_path, content):
  path = tmp_path / "lists/list.txt"
  path.parent.mkdir(exist_ok=True)
  path.write_bytes(content if isinstance(content, bytes) else content.encode())
  return list_images(path)


def test_a_list_names_files_relative_to_its_folder(tmp_path):
  lines = [
    "# a comment", "", "   ", "b.jpg", "./b.jpg", "sub//c.png", f"{tmp_path}/lists/d.jpg", f"{tmp_path}/out.jpg", "../out.jpg",
    "../../" + tmp_path.name + "/lists/b.jpg", "  padded.jpg\t", "no_ending", "./#1.jpg", "missing.jpg",
    "\u2028.jpg", "a\x0cb.jpg",
  ]  # fmt: skip
  names = "#1.jpg ../out.jpg a\x0cb.jpg b.jpg d.jpg missing.jpg no_ending padded.jpg sub/c.png \u2028.jpg"
  for ending, start in (("\n", ""), ("\r\n", ""), ("\r", ""), ("\r\n", "\ufeff"), ("\n", "\ufeff")):
    listing = _list(tmp_path, start + ending.join(lines))
    assert listing.ids == tuple(names.split(" "))
    assert listing.root == str(tmp_path / "lists")
  assert listing.path("../out.jpg") == str(tmp_path / "out.jpg")
  assert listing.skipped == ()


def test_a_list_that_cannot_be_used(tmp_path):
  assert _list(tmp_path, b"a.jpg\ncaf\xe9.jpg\n").skipped == (("caf\\udce9.jpg", "the name is not UTF-8"),)
  for content in (b"", b"\n\n", b"# nothing\n", b"\xef\xbb\xbf"):
    with pytest.raises(InputError, match=r"there are no images in .*: it names no file"):
      _list(tmp_path, content)
  for content in ("a.jpg\n".encode("utf-16"), b"\0\0", b"a\0.jpg"):
    with pytest.raises(InputError, match="not a list of paths in UTF-8: it holds zero bytes"):
      _list(tmp_path, content)


def test_paths_that_are_neither_a_folder_nor_a_list(tmp_path):
  _touch(tmp_path, "a.jpg", "folder/readme.md")
  (tmp_path / "loop").symlink_to(tmp_path / "loop")
  for name, message in {
    "missing": "there is no file or folder",
    "missing.txt": "there is no file or folder",
    "a.jpg": "neither a folder nor a list of paths",
    "a.jpg/below": "there is no file or folder",
    "folder": "there are no images in .*: no file to take ends in",
    "x" * 300: "cannot be read: File name too long",
    "zero\0": "cannot be read",
    "loop": "cannot be read: Too many levels",
  }.items():
    with pytest.raises(InputError, match=message) as caught:
      list_images(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_what_looks_like_many_images(tmp_path):
  assert is_list(tmp_path) and is_list("some.TXT") and is_list("a.list")
  assert not is_list("a.jpg") and not is_list("missing")


def test_odd_names_are_escaped_in_messages(tmp_path):
  for name in ("new\nline", "\x1b[31m", "\u2028"):
    shown = name.encode("unicode_escape").decode()
    with pytest.raises(InputError) as caught:
      list_images(tmp_path / name)
    assert str(caught.value) == f"there is no file or folder {tmp_path}/{shown}"
    (tmp_path / name).mkdir()
    with pytest.raises(InputError) as caught:
      list_images(tmp_path / name)
    assert str(caught.value).startswith(f"there are no images in {tmp_path}/{shown}: ")
  _touch(tmp_path, b"odd/two\nlines caf\xe9.jpg")
  assert list_images(tmp_path / "odd").skipped == (("two\\nlines caf\\udce9.jpg", "the name is not UTF-8"),)
