# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Factories of map files and archives, and the acceptance data."""

import io
import tarfile

import numpy as np
import pytest


def zeropoints(seed=0, shape=(5, 4)):
    """Return zero points of a small map."""
    return np.random.default_rng(seed).normal(29.9, 0.05, shape)


def npy(array, **options):
    """Return an array as the bytes of a .npy file."""
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def tar_member(name, **fields):
    """Return the header of a tar member with given fields."""
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


@pytest.fixture(name="zeropoints")
def zeropoints_factory():
    """Return a factory of zero points."""
    return zeropoints


@pytest.fixture(name="npy")
def npy_factory():
    """Return a factory of the bytes of .npy files."""
    return npy


@pytest.fixture
def write_map(tmp_path):
    """Return a factory of map files: name (with folders), content; returns the path."""

    def write(name, content=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = zeropoints() if content is None else content
        path.write_bytes(content if isinstance(content, bytes) else npy(content))
        return path

    return write


@pytest.fixture
def write_archive(tmp_path):
    """
    A factory of archives: name, {member name: array or bytes}; returns the path.

    ``more`` are further tar headers, which are written without any content.
    """

    def write(name, members=(), more=()):
        path = tmp_path / name
        mode = "w" if path.suffix == ".tar" else "w:gz"
        with tarfile.open(path, mode) as archive:
            for member, content in dict(members).items():
                content = content if isinstance(content, bytes) else npy(content)
                info = tar_member(member, size=len(content))
                archive.addfile(info, io.BytesIO(content))
            for info in more:
                # `addfile` would require the content that the header claims.
                archive.fileobj.write(info.tobuf(tarfile.GNU_FORMAT))
                archive.offset += tarfile.BLOCKSIZE
        return path

    return write


@pytest.fixture(name="tar_member")
def tar_member_factory():
    """Return a factory of the headers of tar members."""
    return tar_member
