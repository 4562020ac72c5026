"""A picture of how a network scales: speed-up over nodes."""

from pathlib import Path

from engine.planner.sweep import Sweep
from engine.profile.figure import figure_class, save_figure


def draw_curve(sweep: Sweep, path: Path) -> None:
    """Draw speed-ups over nodes, predicted, ideal and of the paper where known, into a .png or .svg file.

    Raises
    ------
    UserError
        matplotlib is missing, or the file has another ending or cannot be written.
    """
    figure = figure_class(path)(figsize=(7, 5), layout="constrained")
    axes = figure.subplots()
    reports = [row.report for row in sweep.rows if row.report]
    nodes, speed_ups = [each.nodes for each in reports], [each.speed_up(each.best) for each in reports]
    axes.plot(nodes, nodes, color="#9d9d9d", linestyle="--", linewidth=1, label="ideal")
    axes.plot(nodes, speed_ups, color="#4e79a7", marker="o", markersize=4, label="predicted")
    for place in zip(nodes, speed_ups, strict=True):
        axes.annotate(f"{place[1]:.3g}", place, xytext=(4, -10), textcoords="offset points", fontsize=7)
    if sweep.paper:
        points = list(sweep.paper), list(sweep.paper.values())
        axes.scatter(*points, color="#e15759", marker="*", s=90, zorder=3, label="paper")
    for scale, ticks in ((axes.set_xscale, axes.set_xticks), (axes.set_yscale, axes.set_yticks)):
        scale("log", base=2)
        ticks(nodes, [str(count) for count in nodes])
    axes.minorticks_off()
    axes.set_xlabel("nodes")
    axes.set_ylabel("speed-up over one node")
    axes.set_title(f"{sweep.model}, minibatch {sweep.batch}, {sweep.cluster.name}")
    axes.grid(visible=True, linewidth=0.3)
    axes.legend(frameon=False)
    save_figure(figure, path)
