"""Takes files out of a folder and of the archives in it: PACKAGE INTO PATTERN...

A pattern with a slash at its end names a folder, whose contents go to INTO with their paths below it; any other names
files, which go to INTO itself. It is an error if a pattern fits nothing.
"""

import fnmatch
import io
import os
import shutil
import sys
import tarfile
import zipfile

package, into, patterns = sys.argv[1], sys.argv[2], sys.argv[3:]
unused = set(patterns)


def place(name):
    """Where a file goes; None: nowhere."""
    for pattern in patterns:
        if pattern.endswith("/"):
            depth = pattern.count("/")
            parts = name.split("/")
            if fnmatch.fnmatchcase("/".join(parts[:depth]) + "/", pattern) and parts[depth:] and ".." not in parts:
                unused.discard(pattern)
                return os.path.join(into, *parts[depth:])
        elif fnmatch.fnmatchcase(name.split("/")[-1], pattern):
            unused.discard(pattern)
            return os.path.join(into, name.split("/")[-1])
    return None


def take(name, stream, mode):
    if name.endswith("layer.zip"):
        return archive(io.BytesIO(stream.read()))
    target = place(name)
    if target:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as out:
            shutil.copyfileobj(stream, out)
        os.chmod(target, 0o755 if mode & 0o111 else 0o644)


def archive(file):
    with zipfile.ZipFile(file) as zipped:
        for info in zipped.infolist():
            if not info.is_dir() and (info.external_attr >> 28) != 0o12:
                take(info.filename, zipped.open(info), info.external_attr >> 16)


for folder, _, names in os.walk(package):
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith(".tgz"):
            with tarfile.open(path) as tar:
                for member in tar:
                    if member.isfile():
                        take(member.name, tar.extractfile(member), member.mode)
        else:
            with open(path, "rb") as stream:
                take(os.path.relpath(path, package), stream, os.stat(path).st_mode)
if unused:
    sys.exit(f"nothing in the package fits {sorted(unused)}")
