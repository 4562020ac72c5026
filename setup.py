"""Build the package; all that is declared stands in pyproject.toml.

Jupyter has a package `comm` too, and both are installed into one folder. So ours comes without the file that
both have: beside Jupyter's it is a part of that package, and alone it needs none.
"""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildModules(build_py):
    """Builds all modules but `comm/__init__.py`."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """Return (package, module, file) of each module of a package."""
        found = super().find_package_modules(package, package_dir)
        return [each for each in found if each[:2] != ("comm", "__init__")]


setup(cmdclass={"build_py": BuildModules})
