"""Build the package; all that is declared stands in pyproject.toml.

Jupyter has a package `comm` too, and both are installed into one folder. So ours comes without the file that
both have: beside Jupyter's it is a part of that package, and alone it needs none.

With SOURCE_DATE_EPOCH in the environment both the wheel and the source archive have the same bytes wherever
and whenever they are built.
"""

import gzip
import os
import tarfile
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

EPOCH = "SOURCE_DATE_EPOCH"


class BuildModules(build_py):
    """Builds all modules but `comm/__init__.py`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of each module of a package."""
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[:2] != ("comm", "__init__")]


class SourceArchive(sdist):
    """Packs files in the order of their names, of one time and no owner."""

    def make_archive(
        self,
        base_name: str,
        format: str,  # noqa: A002 -- as setuptools calls it
        root_dir: str | None = None,
        base_dir: str | None = None,
        **owner: str,
    ) -> str:
        """Write the archive; return its path."""
        epoch = os.environ.get(EPOCH)
        if epoch is None or format != "gztar" or base_dir is None:
            return str(super().make_archive(base_name, format, root_dir, base_dir, **owner))
        path, top = Path(f"{base_name}.tar.gz"), Path(base_dir)

        def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
            member.mtime, member.mode = int(epoch), 0o755 if member.isdir() else 0o644
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            return member

        path.parent.mkdir(parents=True, exist_ok=True)
        with (
            path.open("wb") as raw,
            gzip.GzipFile("", "wb", fileobj=raw, mtime=int(epoch)) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            for each in sorted([top, *top.rglob("*")]):
                archive.add(each, recursive=False, filter=plain)
        return str(path)


if EPOCH in os.environ:
    os.umask(0o022)  # decides the modes of files in a wheel
setup(cmdclass={"build_py": BuildModules, "sdist": SourceArchive})
