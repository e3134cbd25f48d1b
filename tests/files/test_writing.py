# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Files are written completely or not at all, and replaced only if allowed."""

import errno
import os
import socket

import pytest

from ks4_ccd import KS4Error, MapGrid, MapKey, ZeroPointMap
from ks4_ccd.files.writing import (
    as_path,
    check_regular,
    partial_stem,
    written_whole,
)


def names_in(folder):
    """Return the names of the files in a folder."""
    return {path.name for path in folder.iterdir()}


def write(path, text="new", *, overwrite=False, meanwhile=None):
    """Write a complete file; ``meanwhile`` is called before it gets its name."""
    with written_whole(path, overwrite) as partial:
        partial.write_text(text)
        if meanwhile is not None:
            meanwhile()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_appears_when_it_is_complete(tmp_path, overwrite):
    """Before, it has another name, and no other file remains."""
    path = tmp_path / "a.fits"
    write(path, overwrite=overwrite, meanwhile=lambda: not path.exists() or 1 / 0)
    assert path.read_text() == "new"
    assert names_in(tmp_path) == {"a.fits"}


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, links):
    """Without overwriting it is not replaced, with and without hard links."""
    path = tmp_path / "a.fits"
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(OSError, match=r"a\.fits already exists; use overwrite=True"):
        write(path, meanwhile=lambda: path.write_text("other"))
    assert path.read_text() == "other"
    assert names_in(tmp_path) == {"a.fits"}
    path.unlink()
    write(path)
    assert path.read_text() == "new"
    assert names_in(tmp_path) == {"a.fits"}


def no_links(*_):
    """Raise the error of a FAT file system."""
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_dangling_link_is_a_file_that_exists(tmp_path):
    """Overwriting creates the file that the link points to."""
    link = tmp_path / "link.fits"
    link.symlink_to(tmp_path / "real.fits")
    with pytest.raises(KS4Error, match="already exists"):
        write(link)
    write(link, overwrite=True)
    assert link.is_symlink()
    assert (tmp_path / "real.fits").read_text() == "new"


@pytest.fixture(params=["folder", "named pipe", "socket", "device"])
def special(request, tmp_path):
    """Return a path that is not a regular file, and its type."""
    path = tmp_path / "special.fits"
    if request.param == "folder":
        path.mkdir()
    elif request.param == "named pipe":
        os.mkfifo(path)
    elif request.param == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))
    else:
        path = type(path)("/dev/null")
    return path, request.param


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Unix only")
@pytest.mark.parametrize("through_link", [False, True])
@pytest.mark.parametrize("appears_late", [False, True])
def test_special_files_are_never_replaced(
    tmp_path, special, through_link, appears_late
):
    """Special files are kept, also behind a link or if they appear meanwhile."""
    path, kind = special
    if appears_late and kind == "device":
        pytest.skip("only root can create devices")
    target = path
    if through_link:
        target = tmp_path / "link.fits"
        target.symlink_to(path)
    before = os.lstat(path)
    meanwhile = None
    if appears_late:
        away = path.with_name("away")
        path.rename(away)
        meanwhile = lambda: away.rename(path)  # noqa: E731
    with pytest.raises(KS4Error, match=f"regular file to replace, found a {kind}"):
        write(target, overwrite=True, meanwhile=meanwhile)
    assert os.path.samestat(os.lstat(path), before)
    assert not [name for name in names_in(tmp_path) if name.endswith(".part")]


@pytest.mark.parametrize(
    "name", ["ü" * 120 + ".fits", "a" * 250 + ".fits", "a\nb .fits"]
)
def test_any_name_can_be_written(tmp_path, name):
    """Names of 255 bytes and with line breaks are written through a partial file."""
    write(tmp_path / name)
    assert names_in(tmp_path) == {name}
    assert len(os.fsencode(partial_stem(name))) <= 200


@pytest.mark.parametrize("path", ["", None, 5, b"a", "a\0b"])
def test_what_is_not_a_path_is_refused(path):
    """An empty string, which pathlib interprets as the current folder, is refused."""
    with pytest.raises(KS4Error, match="target must be the name of a file"):
        as_path("target", path)


def test_only_regular_files_are_read(tmp_path):
    """Reading a named pipe would block."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(KS4Error, match="expected a regular file, found a named pipe"):
        check_regular(tmp_path / "pipe")
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["x.fits", "x.FITS", "maps.tar.gz", "zp.npy"])
def test_maps_are_not_saved_to_a_folder_with_the_name_of_a_file(tmp_path, name):
    """An existing folder of that name is used."""
    key = MapKey("zp", "0403", "R", "single", "APER5")
    zpmap = ZeroPointMap([[30.0]], grid=MapGrid((1, 1), 50), key=key)
    with pytest.raises(KS4Error, match="expected the name of a folder"):
        zpmap.save(tmp_path / name)
    assert names_in(tmp_path) == set()
    (tmp_path / name).mkdir()
    assert zpmap.save(tmp_path / name)
