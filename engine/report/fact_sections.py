"""The sections of facts: results, recipes, environments; of several runs side by side, and what differs."""

from collections.abc import Sequence

from engine.config.wording import counted
from engine.report import comparison
from engine.report.comparison import Row
from engine.report.elements import compared, facts, section
from engine.report.markup import Markup, tag
from engine.report.run_record import RunRecord

_HEADLINES = (
    "test accuracy",
    "test loss",
    "loss of the last step",
    "samples/s, median",
    "time of the session",
)


def results_section(records: Sequence[RunRecord]) -> Markup:
    """Return the results: large for one run, a column for each of several."""
    rows = comparison.results(records)
    if len(records) > 1:
        about = "Rows in bold differ."
        return section("results", "Results", about, compared(records, rows, "Results of the runs"))
    named = {row.name: row for row in rows}
    large = [
        tag("div", tag("dt", name), tag("dd", named.pop(name).values[0]))
        for name in _HEADLINES
        if name in named
    ]
    return section(
        "results", "Results", None,
        tag("dl", *large, class_="figures") if large else None, facts(list(named.values())),
    )  # fmt: skip


def recipe_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return the recipes: what differs, then the rest."""
    rows = comparison.recipes(records)
    if not rows:
        return None
    if len(records) == 1:
        return section("recipe", "Recipe", None, facts(rows))
    differing, same = _sorted(rows)
    shown = (
        compared(records, differing, "Fields of the recipe that differ", marks=False)
        if differing
        else tag("p", "All runs have the same recipe.")
    )
    rest = tag("details", tag("summary", f"{counted(len(same), 'field')} that do not differ"), facts(same))
    return section("recipe", "Recipe: what differs", None, shown, rest if same else None)


def environment_section(records: Sequence[RunRecord]) -> Markup | None:
    """Return what the runs ran on, and the hashes of what came out."""
    rows, hashes = comparison.environments(records), comparison.hashes(records)
    if not rows and not hashes:
        return None
    title = "Environment and hashes"
    if len(records) == 1:
        return section("environment", title, None, facts(rows), facts(hashes, long=True))
    differing, same = _sorted(rows)
    shown = compared(records, [*differing, *hashes], "What differs of environments, and hashes")
    return section("environment", title, None, shown, facts(same))


def _sorted(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """Return the rows that differ, and those that do not."""
    return [row for row in rows if row.differs], [row for row in rows if not row.differs]
