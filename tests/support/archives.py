"""Packs and unpacks archives with Python's own modules.

usage: archives.py zip KIND TREE ARCHIVE      KIND: plain zip64 piped nomodes
       archives.py unzip ARCHIVE TREE
       archives.py tar FORMAT TREE ARCHIVE    FORMAT: ustar gnu pax
       archives.py untar ARCHIVE TREE
"""

import os
import stat
import sys
import tarfile
import time
import zipfile


class Pipe:
    """A file that cannot be sought in, so that lengths follow the data."""

    def __init__(self, file):
        self.file = file

    def write(self, data):
        return self.file.write(data)

    def flush(self):
        self.file.flush()


def walk(tree, below=""):
    for name in sorted(os.listdir(os.path.join(tree, below))):
        name = os.path.join(below, name)
        path = os.path.join(tree, name)
        info = os.lstat(path)
        yield path, name, info
        if stat.S_ISDIR(info.st_mode):
            yield from walk(tree, name)


def pack_zip(kind, tree, archive):
    with open(archive, "wb") as file:
        out = Pipe(file) if kind in ("zip64", "piped") else file
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as pack:
            for path, name, info in walk(tree):
                directory = stat.S_ISDIR(info.st_mode)
                when = time.gmtime(info.st_mtime)[:6]
                member = zipfile.ZipInfo(name + "/" if directory else name, when)
                member.create_system = 3
                member.external_attr = info.st_mode << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                if kind == "nomodes":
                    member.create_system = 0
                    member.external_attr = 0x10 if directory else 0
                if directory:
                    pack.writestr(member, b"")
                elif stat.S_ISLNK(info.st_mode):
                    pack.writestr(member, os.fsencode(os.readlink(path)))
                else:
                    with pack.open(member, "w", force_zip64=kind == "zip64") as into:
                        with open(path, "rb") as source:
                            into.write(source.read())


def unpack_zip(archive, tree):
    times = []
    with zipfile.ZipFile(archive) as pack:
        for member in pack.infolist():
            path = os.path.join(tree, member.filename)
            mode = member.external_attr >> 16
            if member.is_dir():
                os.makedirs(path, exist_ok=True)
            elif stat.S_ISLNK(mode):
                os.symlink(os.fsdecode(pack.read(member)), path)
            else:
                with open(path, "wb") as out:
                    out.write(pack.read(member))
                if mode:
                    os.chmod(path, stat.S_IMODE(mode))
            when = time.mktime(member.date_time + (0, 0, 0))
            times.append((path, when))
    for path, when in reversed(times):
        os.utime(path, (when, when), follow_symlinks=False)


def pack_tar(form, tree, archive):
    forms = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
    with tarfile.open(archive, "w", format=forms[form]) as pack:
        for path, name, _ in walk(tree):
            pack.add(path, name, recursive=False)


def unpack_tar(archive, tree):
    with tarfile.open(archive) as pack:
        pack.extractall(tree, numeric_owner=True)
        # That gives files and directories their times, but not links.
        for member in pack.getmembers():
            if member.issym():
                path = os.path.join(tree, member.name)
                os.utime(path, (member.mtime, member.mtime), follow_symlinks=False)


if __name__ == "__main__":
    verb, args = sys.argv[1], sys.argv[2:]
    {"zip": pack_zip, "unzip": unpack_zip, "tar": pack_tar, "untar": unpack_tar}[verb](*args)
