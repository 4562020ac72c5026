"""Python files of the user's: a network, a data set, named as FILE.py:function.

The file runs under a module name of its own, so that it clashes with nothing. Its folder is searched last for
what it imports: a `layers.py` beside it does not take the place of this package's.
"""

import ast
import hashlib
import importlib.util
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from engine.config.errors import Impatience, UserError
from engine.config.files import read_bytes, reading
from engine.config.paths import expand, function_in_file
from engine.config.wording import did_you_mean, one_of

_PREFIX = "lockstep_user_"
"""Of the names of modules that are users' files."""

_PACKAGES = ("lockstep", "engine", "layers", "comm")
"""Names that mean this package's own modules, also in a file that lies beside them."""


def load_function(text: str, option: str) -> Callable[..., Any]:
    """Return the function that "FILE.py:function" names.

    Parameters
    ----------
    option
        Names the option in errors: "model".

    Raises
    ------
    UserError
        There is no such file or function, or the file fails when it runs.
    """
    place = function_in_file(text)
    assert place is not None
    path, name = expand(place[0], option), place[1]
    if not path.is_file():
        raise UserError(f"{option}: {path.absolute()}: no such file")
    with reading(path, option):
        content = read_bytes(path)
    try:
        with no_exit(f"{option}: {path}"):
            module = _module(path.resolve(), content)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{option}: {path}: {_said(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        made = [each for each, value in vars(module).items() if _is_public(each, value, module)]
        allowed = one_of(made) if made else "it has none"
        raise UserError(f'{option}: {path} has no function "{name}"{did_you_mean(name, made)}; {allowed}')
    result: Callable[..., Any] = function
    return result


def call(
    function: Callable[..., Any], arguments: Mapping[str, Any], option: str, *, given: Mapping[str, Any]
) -> Any:
    """Call a function of a network or a data set by name.

    Parameters
    ----------
    arguments
        The user's; the function must take all of them.
    given
        What the engine can give besides: passed on where the function has a parameter of that name.

    Raises
    ------
    UserError
        An argument that the function does not take or that is missing, or an error in the function.
    """
    parameters = parameters_of(function, option)
    takes_any = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values())
    for name in arguments:
        if name not in parameters and not takes_any:
            allowed = one_of(parameters) if parameters else "it takes none"
            hint = did_you_mean(name, parameters)
            raise UserError(f"{option}: {_named(function)} takes no argument {name}{hint}; {allowed}")
    filled = {name: value for name, value in given.items() if name in parameters} | dict(arguments)
    for name, parameter in parameters.items():
        if name not in filled and parameter.default is parameter.empty and _is_named(parameter):
            raise UserError(f"{option}: {_named(function)} needs {name}: --{option}-argument {name}=VALUE")
    try:
        with no_exit(f"{option}: {_named(function)}"):
            return function(**filled)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{option}: {_named(function)}: {_said(error)}") from error


@contextmanager
def no_exit(where: str) -> Iterator[None]:
    """Turn what would end the program, or one of its threads in silence, into an error of code of the user's.

    Other ranks would wait for ever for one that leaves by sys.exit. A Ctrl-C of somebody at the keyboard is
    let through.

    Parameters
    ----------
    where
        Named in the error.

    Raises
    ------
    UserError
        Instead of SystemExit, KeyboardInterrupt, GeneratorExit and the like.
    """
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if _may_be_ctrl_c(error):
            raise
        raise UserError(f"{where}: {_said(error)}; code of yours must not end the program") from error


def parameters_of(function: Callable[..., Any], option: str) -> Mapping[str, inspect.Parameter]:
    """Return what a function takes, by name; UserError where it does not say that, as `max` does not."""
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise UserError(
            f"{option}: {_named(function)} does not say which arguments it takes; must be a function of yours"
        ) from error


def code_digest(texts: tuple[str, ...]) -> str:
    """Return a hash of the files that "FILE.py:function" texts name, and of what those import beside them.

    Imports are read off the files, not off this process, which may have imported more: a run from Python and
    its resumption from the command line have one hash. Texts of another form count nothing; the hash is empty
    where none is left.
    """
    places = [place for text in texts if (place := function_in_file(text))]
    named = {expand(path, "file").resolve() for path, _ in places}
    files = {each for path in named for each in (path, *_imported_beside(path))}
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda each: (each.name, each)):
        with reading(path):
            content = read_bytes(path)
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16] if files else ""


@cache
def _module(path: Path, content: bytes) -> ModuleType:
    """Run a file; once for each content, so that one that was edited meanwhile runs again.

    What runs is the content, not a file of compiled code beside it, which may be of an earlier edit.
    """
    name = f"{_PREFIX}{hashlib.sha256(str(path).encode() + content).hexdigest()[:8]}_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    sys.modules[name] = module  # dataclasses look their module up, and `_said` its file
    exec(compile(content, str(path), "exec"), vars(module))
    return module


def _imported_beside(path: Path) -> set[Path]:
    """Return the files that a user's file imports, itself or by way of others, from its own folder."""
    found: set[Path] = set()
    left = [path]
    while left:
        importing = left.pop()
        for file in _imports(importing, path.parent):
            if file != path and file not in found:
                found.add(file)
                left.append(file)
    return found


def _imports(importing: Path, folder: Path) -> Iterator[Path]:
    """Yield the files inside a folder that the import statements of a file name."""
    try:
        with reading(importing):
            content = read_bytes(importing)
        tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # said when it is imported, if ever
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _files(folder, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = importing.parents[node.level - 1] if node.level else folder
            for alias in node.names:
                yield from _files(base, ".".join(filter(None, (node.module, alias.name))), top=not node.level)


def _files(folder: Path, name: str, *, top: bool = True) -> Iterator[Path]:
    """Yield the files of a module and of the packages around it, as far as they lie in a folder.

    Parameters
    ----------
    top
        The name is a whole one, so that Python may find it elsewhere first.
    """
    first, *_ = parts = name.split(".")
    if top and (first in _PACKAGES or not _is_found_in(folder, first)):
        return
    for part in parts:
        if (folder / f"{part}.py").is_file():
            yield folder / f"{part}.py"
            return
        folder /= part
        if (folder / "__init__.py").is_file():
            yield folder / "__init__.py"


def _is_found_in(folder: Path, name: str) -> bool:
    """Say whether `import name` finds a module or package in this folder."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # ValueError: a module that was made by hand
        return False
    if spec is None or not spec.has_location:
        return False
    return any(Path(place).parent.resolve() == folder for place in _places(spec))


def _places(spec: ModuleSpec) -> list[str]:
    """Return the folders of a package, or the file of a module."""
    return list(spec.submodule_search_locations or filter(None, [spec.origin]))


def _may_be_ctrl_c(error: BaseException) -> bool:
    """Say whether an exception may come from a signal: those reach the main thread alone."""
    if isinstance(error, Impatience):
        return True
    is_raised = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return (
        isinstance(error, KeyboardInterrupt)
        and is_raised
        and threading.current_thread() is threading.main_thread()
    )


def _said(error: BaseException) -> str:
    """Return one line: the error, behind the last line of the user's code on the way to it."""
    kind = type(error).__name__
    if isinstance(error, SyntaxError):
        line = "" if error.lineno is None else f"line {error.lineno}: "  # a NUL byte has none
        return f"{line}{kind}: {error.msg}"
    text = str(error)
    typed = f"{kind}: {text}" if text else kind
    own = {getattr(each, "__file__", None) for name, each in sys.modules.items() if name.startswith(_PREFIX)}
    frames = traceback.extract_tb(error.__traceback__)
    frame = next((each for each in reversed(frames) if each.filename in own), None)
    if frame is None:  # a function that is shipped: the error says what does not fit
        return text if text and isinstance(error, Exception) else typed
    return f"{Path(frame.filename).name}, line {frame.lineno}: {typed}"


def _named(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _is_named(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _is_public(name: str, value: Any, module: ModuleType) -> bool:
    return not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
