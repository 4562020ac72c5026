"""Changes: each wrong way to write one place of a source file."""

import ast
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import dataclass, replace

_OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitOr,
    ast.Pow: ast.Mult,
}
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_OTHER_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
_ASSERTION = "strict"  # of `zip`
_NEGATED_ALREADY = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)


@dataclass(frozen=True)
class Change:
    """One place of a file, written another way.

    A change is known by its file, scope, line and description, so that it keeps its name while the file
    grows around it.
    """

    file: str
    scope: str
    """Qualified name of the function or class around it; empty at the top of a module."""
    line: str
    """The first line of what is changed, without its indentation."""
    what: str
    """`old -> new`; a number follows where the line holds the same change twice."""
    number: int
    """Of the first line."""
    lines: frozenset[int]
    """Line numbers of what is changed: a test that reaches one of them may notice."""
    start: int
    stop: int
    new: str
    at_import: bool
    """Whether the place runs when the module is imported, before any test."""

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Name of the change."""
        return self.file, self.scope, self.line, self.what

    def applied(self, source: str) -> str:
        """Return the file's source with this change."""
        content = source.encode()
        return (content[: self.start] + self.new.encode() + content[self.stop :]).decode()


def changes_of(file: str, source: str) -> list[Change]:
    """List all changes of a source file, in its order."""
    found = sorted(_Finder(file, source).find(), key=lambda change: (change.start, change.stop, change.new))
    seen: Counter[tuple[str, str, str, str]] = Counter()
    named = []
    for change in found:
        seen[change.key] += 1
        count = seen[change.key]
        named.append(replace(change, what=f"{change.what} #{count}") if count > 1 else change)
    return named


class _Finder:
    """Walks a file's tree and makes the changes of each node."""

    def __init__(self, file: str, source: str):
        self._file, self._tree = file, ast.parse(source)
        self._lines = source.splitlines()
        self._starts = [0]  # byte at which each line begins
        for line in source.encode().splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def find(self) -> Iterator[Change]:
        yield from self._walk_all(self._tree.body, "", at_import=True)

    def _walk_all(self, nodes: list[ast.stmt], scope: str, *, at_import: bool) -> Iterator[Change]:
        for node in nodes:
            yield from self._walk(node, scope, at_import=at_import)

    def _walk(self, node: ast.AST, scope: str, *, at_import: bool) -> Iterator[Change]:
        if isinstance(node, ast.ClassDef):
            yield from self._walk_all(node.body, _inside(scope, node.name), at_import=at_import)
            return
        if isinstance(node, ast.FunctionDef):  # neither its decorators nor its annotations
            inner = _inside(scope, node.name)
            for default in (*node.args.defaults, *node.args.kw_defaults):
                if default is not None:
                    yield from self._walk(default, inner, at_import=at_import)
            yield from self._walk_all(node.body, inner, at_import=False)
            return
        for old, new, described in _rewritten(node, scope):
            yield self._change(old, new, described, scope, at_import)
        for child in _children(node):
            yield from self._walk(child, scope, at_import=at_import)

    def _change(self, old: ast.AST, new: str, described: str, scope: str, at_import: bool) -> Change:
        assert isinstance(old, ast.expr | ast.stmt | ast.keyword)
        assert old.end_lineno is not None and old.end_col_offset is not None
        return Change(
            self._file,
            scope,
            self._lines[old.lineno - 1].strip(),
            described,
            old.lineno,
            frozenset(range(old.lineno, old.end_lineno + 1)),
            self._starts[old.lineno - 1] + old.col_offset,
            self._starts[old.end_lineno - 1] + old.end_col_offset,
            new,
            at_import,
        )


def _inside(scope: str, name: str) -> str:
    return f"{scope}.{name}" if scope else name


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the parts of a node in which changes mean something: no assertions, texts of errors, or types."""
    if isinstance(node, ast.Assert | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
        return
    if isinstance(node, ast.keyword) and node.arg == _ASSERTION:
        return
    if isinstance(node, ast.AnnAssign):
        yield from [] if node.value is None else [node.value]
        return
    yield from ast.iter_child_nodes(node)


def _rewritten(node: ast.AST, scope: str) -> Iterator[tuple[ast.AST, str, str]]:
    """Yield (what is replaced, by what, description) for one node."""
    for kind, rewrite in _REWRITES:
        if isinstance(node, kind):
            yield from rewrite(node)
    if _is_removable(node, scope):
        yield node, "pass", f"{_short(node)} -> removed"


def _expression(old: ast.expr, new: ast.expr) -> tuple[ast.AST, str, str]:
    return old, f"({ast.unparse(new)})", f"{_short(old)} -> {_short(new)}"


def _operator(node: ast.BinOp) -> Iterator[tuple[ast.AST, str, str]]:
    other = _OPERATORS.get(type(node.op))
    if other is not None:
        yield _expression(node, _with(node, op=other()))


def _comparison(node: ast.Compare) -> Iterator[tuple[ast.AST, str, str]]:
    for place, op in enumerate(node.ops):
        ops = [*node.ops[:place], _COMPARISONS[type(op)](), *node.ops[place + 1 :]]
        yield _expression(node, _with(node, ops=ops))


def _logic(node: ast.BoolOp) -> Iterator[tuple[ast.AST, str, str]]:
    yield _expression(node, _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And()))


def _sign(node: ast.UnaryOp) -> Iterator[tuple[ast.AST, str, str]]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield _expression(node, node.operand)


def _constant(node: ast.Constant) -> Iterator[tuple[ast.AST, str, str]]:
    value = node.value
    if isinstance(value, bool):
        yield _expression(node, ast.Constant(not value))
    elif isinstance(value, int):
        yield _expression(node, ast.Constant(value + 1))
        yield _expression(node, _number(value - 1))
    elif isinstance(value, float):
        yield _expression(node, ast.Constant(2 * value or 1.0))


def _number(value: int) -> ast.expr:
    return ast.Constant(value) if value >= 0 else ast.UnaryOp(ast.USub(), ast.Constant(-value))


def _condition(node: ast.If | ast.While | ast.IfExp) -> Iterator[tuple[ast.AST, str, str]]:
    yield from _negated(node.test)


def _filters(node: ast.comprehension) -> Iterator[tuple[ast.AST, str, str]]:
    for test in node.ifs:
        yield from _negated(test)


def _negated(test: ast.expr) -> Iterator[tuple[ast.AST, str, str]]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], _NEGATED_ALREADY):
        return
    yield _expression(test, ast.UnaryOp(ast.Not(), test))


def _call(node: ast.Call) -> Iterator[tuple[ast.AST, str, str]]:
    if isinstance(node.func, ast.Name) and node.func.id in _OTHER_NAMES:
        yield _expression(node, _with(node, func=ast.Name(_OTHER_NAMES[node.func.id])))
    is_symmetric = isinstance(node.func, ast.Name) and node.func.id in {"min", "max"}
    first, second = (None, None) if is_symmetric else (*node.args, None, None)[:2]
    if (
        first
        and second
        and ast.Starred not in {type(first), type(second)}
        and ast.dump(first) != ast.dump(second)
    ):
        yield _expression(node, _with(node, args=[second, first, *node.args[2:]]))
    for keyword in node.keywords:
        if keyword.arg not in {None, _ASSERTION}:
            rest = [each for each in node.keywords if each is not keyword]
            yield _expression(node, _with(node, keywords=rest))
            if isinstance(keyword.value, ast.Name | ast.Attribute):
                yield _expression(keyword.value, ast.Constant(0))


def _return(node: ast.Return) -> Iterator[tuple[ast.AST, str, str]]:
    if node.value is not None and not isinstance(node.value, ast.Compare | ast.BoolOp | ast.Constant):
        yield node, "return None", f"{_short(node)} -> return None"


def _jump(node: ast.Break | ast.Continue) -> Iterator[tuple[ast.AST, str, str]]:
    other = "continue" if isinstance(node, ast.Break) else "break"
    yield node, other, f"{_short(node)} -> {other}"


def _with_block(node: ast.With) -> Iterator[tuple[ast.AST, str, str]]:
    """Take a lock away, or whatever else a block is inside of."""
    if len(node.items) == 1 and node.items[0].optional_vars is None:
        body = copy(node)
        text = ast.unparse(ast.If(ast.Constant(1), body.body, []))
        indented = text.replace("\n", "\n" + " " * node.col_offset)
        yield node, indented, f"with {_short(node.items[0].context_expr)} -> without"


_REWRITES: list[
    tuple[type[ast.AST] | tuple[type[ast.AST], ...], Callable[..., Iterator[tuple[ast.AST, str, str]]]]
]
_REWRITES = [
    (ast.BinOp, _operator),
    (ast.Compare, _comparison),
    (ast.BoolOp, _logic),
    (ast.UnaryOp, _sign),
    (ast.Constant, _constant),
    ((ast.If, ast.While, ast.IfExp), _condition),
    (ast.comprehension, _filters),
    (ast.Call, _call),
    (ast.Return, _return),
    ((ast.Break, ast.Continue), _jump),
    (ast.With, _with_block),
]


def _is_removable(node: ast.AST, scope: str) -> bool:
    """Return whether a program without this statement is one that somebody could have written."""
    if isinstance(node, ast.Raise | ast.AugAssign | ast.Delete):
        return True
    if isinstance(node, ast.Expr):
        return not isinstance(node.value, ast.Constant)
    if isinstance(node, ast.Assign):  # a name that is missing is noticed at once
        return not scope.endswith("__init__") and not any(
            isinstance(each, ast.Name | ast.Tuple) for each in node.targets
        )
    return False


def _with(node: ast.expr, **fields: object) -> ast.expr:
    changed = copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _short(node: ast.AST) -> str:
    return " ".join(ast.unparse(node).split())
