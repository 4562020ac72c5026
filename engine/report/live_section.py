"""The sections that a page has while a run goes on: how it gets on, its ranks, what it has survived."""

from engine.report import figures, progress
from engine.report.elements import figure, grid, heading, row_name, scrolling, section
from engine.report.followed_run import RECENT, FollowedRun
from engine.report.markup import Content, Markup, tag

_LARGE = {"loss": "loss", "speed": "samples/s", "left": "time left", "exposed": "exposed communication"}
_SMALL = {"step": "step", "epoch": "epoch", "accuracy": "test accuracy", "sign": "last sign of life"}


def live_section(run: FollowedRun, now: float) -> Markup:
    """Return how the run gets on; the page's script keeps it as it is."""
    told = progress.facts(run, now)
    large = [tag("div", tag("dt", label), _kept(name, told[name])) for name, label in _LARGE.items()]
    small = [tag("div", tag("dt", label), _kept(name, told[name])) for name, label in _SMALL.items()]
    if where := progress.host(run):
        small.append(tag("div", tag("dt", "rank 0"), tag("dd", where)))
    state = tag("p", _word("state", told["state"], tone=progress.state(run, now).kind), class_="said")
    about = f"Means over the last {RECENT} steps; time left without evaluations and checkpoints."
    return section(
        "now", "Now", about, state, tag("dl", *large, class_="figures"), tag("dl", *small, class_="facts")
    )


def ranks_section(run: FollowedRun, now: float) -> Markup:
    """Return a row for each rank that the folder tells of."""
    told, count = progress.facts(run, now), progress.ranks(run)
    rows = [
        tag(
            "tr", row_name(f"rank {rank}"), tag("td", _word("state", told["state"])),
            tag("td", _word("sign", told["sign"])),
            figure(figures.size(progress.peak_bytes(run, rank))),
        )
        for rank in progress.shown_ranks(run)
    ]  # fmt: skip
    head = [heading(each, numeric=False) for each in ("", "state", "last sign of life")]
    head.append(heading("largest memory"))
    table = scrolling(grid("Ranks", [tag("tr", *head)], rows))
    about = "A step needs all ranks, so the last line is a sign of life of each."
    if count is None:
        about += " How many there are is in the folder when the run has ended, or was started again."
    elif count > len(rows):
        about += f" The first {len(rows)} of {count:,} are shown."
    return section("ranks", "Ranks", about, table)


def faults_section(run: FollowedRun) -> Markup | None:
    """Return what the run has survived; None where that is nothing."""
    found = [tag("li", each) for each in progress.faults(run)]
    return section("faults", "Faults survived", None, tag("ul", *found)) if found else None


def _kept(name: str, text: str) -> Markup:
    return tag("dd", text, data_live=name)


def _word(name: str, text: Content, *, tone: str | None = None) -> Markup:
    return tag("span", text, data_live=name, class_=f"state {tone}" if tone else None)
