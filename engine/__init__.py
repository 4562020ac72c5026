"""Training on CPU clusters: graph, memory, step, trainer and the commands."""

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

_OWN = {
    "comm": "communicator.py",
    "layers": "layer.py",
}  # names that users have, too, each with a file of ours


_JUPYTERS = "base_comm.py"
"""By which Jupyter's package `comm` is known."""


def _put_current_folder_last(arguments: list[str], path: list[str], place: Path) -> None:
    """Let nothing in the current folder hide an installed module, where ``python -m`` has put it first.

    Parameters
    ----------
    arguments
        ``sys.argv``: while the package of ``python -m package.module`` is imported, it begins with "-m".
    path
        ``sys.path``, which is changed.
    place
        The folder that this package lies in; as the current folder, that of a checkout, it stays first.
    """
    if arguments[:1] == ["-m"] and not sys.flags.safe_path and path and Path(path[0]) != place:
        path.append(path.pop(0))


def _share_with_jupyter(place: Path) -> None:
    """Let Jupyter's package `comm`, which every notebook has imported before us, find our modules too.

    The two have no module in common; ours is not imported by anybody but us.
    """
    spec = find_spec("comm")
    places = (spec.submodule_search_locations if spec else None) or ()
    if any((Path(each) / _JUPYTERS).is_file() for each in places):
        import_module("comm").__path__.append(str(place / "comm"))


def _hidden() -> str | None:
    """Return what is wrong if a module of the user's is imported in place of a package of ours."""
    for name, file in _OWN.items():
        spec = find_spec(name)
        places = (spec.submodule_search_locations if spec else None) or ()
        if not any((Path(place) / file).is_file() for place in places):
            found = (spec.origin or next(iter(places), None) if spec else None) or "nothing"
            return (
                f"{found} is found where lockstep's package {name} should be; rename it, or start elsewhere"
            )
    return None


def _look_around() -> None:
    _put_current_folder_last(sys.argv, sys.path, Path(__file__).parent.parent)
    _share_with_jupyter(Path(__file__).parent.parent)
    wrong = _hidden()
    if wrong is None:
        return
    if sys.argv[:1] != ["-m"]:
        raise ImportError(wrong)
    print(f"error: {wrong}", file=sys.stderr)
    sys.exit(2)


_look_around()
