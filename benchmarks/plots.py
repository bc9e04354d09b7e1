"""Pictures of a report: dots for a group, curves for a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from measure import Group, Row, duration
from report import Section

_DPI = 130
_OWN = "convgmm"  # rows whose names begin so are drawn in strong colours
_OWN_COLOURS = ("#b2182b", "#d6604d", "#f4a582", "#8e0152")
_PEER_COLOURS = ("#053061", "#2166ac", "#4393c3", "#5aae61", "#1b7837", "#762a83", "#777777")
_MARKERS = "osD^vPX*<>hp"


def _style(sections: Sequence[Section]) -> dict[str, tuple[str, str]]:
    """Give every implementation a colour and a marker that stay its own."""
    names = dict.fromkeys(row.name for section in sections for group in section.groups for row in group.rows)
    own = [name for name in names if name.startswith(_OWN)]
    peers = [name for name in names if not name.startswith(_OWN)]
    coloured = [(name, _OWN_COLOURS[i % len(_OWN_COLOURS)]) for i, name in enumerate(own)]
    coloured += [(name, _PEER_COLOURS[i % len(_PEER_COLOURS)]) for i, name in enumerate(peers)]
    return {name: (colour, _MARKERS[i % len(_MARKERS)]) for i, (name, colour) in enumerate(coloured)}


def _spread(rows: Sequence[Row]) -> list[list[float]]:
    """Return how far the shortest and the longest times are from the medians."""
    return [[row.median - min(row.seconds) for row in rows], [max(row.seconds) - row.median for row in rows]]


def draw_groups(sections: Sequence[Section], path: Path) -> list[Path]:
    """Draw each group that compares something: medians on a logarithmic axis, with the shortest and longest times.

    Return the picture's path, or nothing if there is nothing to draw.
    """
    style = _style(sections)
    groups = [(section, group) for section in sections for group in section.groups if len(group.rows) > 1]
    if not groups:
        return []
    heights = [len(group.rows) + 2.0 for _, group in groups]
    figure = Figure(figsize=(9, 0.34 * sum(heights) + 0.6), layout="constrained")
    axes = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (section, group), ax in zip(groups, axes, strict=True):
        _dots(ax, f"{section.title}: {group.title}", group, style)
    figure.savefig(path, dpi=_DPI)
    return [path]


def _dots(ax: Axes, title: str, group: Group, style: dict[str, tuple[str, str]]) -> None:
    for place, row in enumerate(group.rows):
        colour, marker = style[row.name]
        ax.errorbar(row.median, place, xerr=_spread([row]), color=colour, marker=marker, markersize=7, capsize=3)
        end = max(row.seconds), place
        ax.annotate(duration(row.median), end, xytext=(8, 0), textcoords="offset points", va="center")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda seconds, _: duration(seconds))
    ax.xaxis.set_minor_formatter(NullFormatter())
    times = [seconds for row in group.rows for seconds in row.seconds]
    ax.set_xlim(min(times) / 1.5, max(times) * 2.5)
    ax.set_yticks(range(len(group.rows)), [row.name for row in group.rows])
    ax.set_ylim(len(group.rows) - 0.4, -0.6)
    ax.set_title(title, fontsize="medium", loc="left")
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def draw_sweeps(sections: Sequence[Section], path: Path) -> list[Path]:
    """Draw each section that has an axis as curves of medians, with the shortest and the longest times; as above."""
    sweeps = [section for section in sections if section.columns]
    if not sweeps:
        return []
    style = _style(sweeps)
    n_columns = 2
    n_rows = -(-len(sweeps) // n_columns)
    figure = Figure(figsize=(11, 3.6 * n_rows + 1.2), layout="constrained")
    panels = figure.subplots(n_rows, n_columns, squeeze=False).ravel()
    common: dict[str, Any] = {}
    for section, ax in zip(sweeps, panels, strict=False):
        common |= _curves(ax, section, style)
    for ax in panels[len(sweeps) :]:
        ax.set_axis_off()
    figure.legend(common.values(), common.keys(), loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=_DPI)
    return [path]


def _curves(ax: Axes, section: Section, style: dict[str, tuple[str, str]]) -> dict[str, Any]:
    handles: dict[str, Any] = {}
    values = [int(column.replace(",", "")) for column in section.columns]
    for name, (colour, marker) in style.items():
        found = {value: row for value, group in zip(values, section.groups, strict=True) if (row := group.row(name))}
        if found:
            rows, look = list(found.values()), {"color": colour, "marker": marker, "markersize": 4, "lw": 1.2}
            medians = [row.median for row in rows]
            handles[name] = ax.errorbar(list(found), medians, yerr=_spread(rows), capsize=2, **look)
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    ax.set_xticks(values, section.columns)
    ax.set_xticks([], minor=True)
    ax.set_xlabel(str(section.axis))
    ax.set_ylabel("seconds")
    ax.set_title(section.title, fontsize="medium", loc="left")
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    return handles
