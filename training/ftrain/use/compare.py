"""`ftrain compare RUN RUN…`: differences between the configurations of runs, and their metrics, side by side."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fschemas.failures import UsageError
from fschemas.folders import claim_output
from fschemas.json_file import read_json
from fschemas.landmarks import landmark_set
from fschemas.publish import exclusive, publish_bytes, publish_json
from fschemas.wording import count
from ftrain.data.csv_text import csv_bytes
from ftrain.fit.checkpoint import BEST_METRIC_FILE
from ftrain.fit.run_folder import RunFolder, flat
from ftrain.metrics.normalized_error import UNITS, is_of_own_unit, own_unit
from ftrain.plots.figures import FAINT_COLOR, MODEL_COLOR, STYLE, TEXT_COLOR, draw_head, to_png
from ftrain.plots.sheet import shortened
from ftrain.reports.text_table import aligned
from ftrain.tasks.task import find_task
from ftrain.use.evaluate import REPORT_FILE
from ftrain.use.key_metrics import metric_value, read_curve

TABLE_FILE, JSON_FILE, PLOT_FILE = "comparison.csv", "comparison.json", "comparison.png"
EVALUATION_FOLDER = "evaluation"  # default output folder of `ftrain evaluate`
_WIDEST, _NOTHING = 44, "-"  # characters per cell; text of an empty cell
_COLUMNS = 3  # of the plot
_EVALUATED = {
    "model": dict,
    "task": str,
    "split": str,
    "samples": int,
    "checkpoint_step": int,
}  # required keys of a report


@dataclass(frozen=True)
class _Run:
    """One run: its name in the table, task, flat configuration, a report of its metrics, and their source."""

    name: str
    path: Path
    task: str
    config: Mapping[str, Any]
    report: Mapping[str, Any]
    source: str
    unit: str | None  # of landmark errors without a unit in their name; None for a run without landmarks

    def to_json(self) -> dict[str, str]:
        return {"name": self.name, "path": str(self.path), "task": self.task, "source": self.source}


def compare_runs(paths: Sequence[Path], out: Path | None = None, *, reports: Path | None = None) -> dict[str, Any]:
    """Compare run folders and return JSON values; with `out`, publish `comparison.csv`, `.json` and `.png` there.

    In the result, `runs` are the columns, `configuration` the parameters that differ, `metrics` the metrics; the last
    two map names to lists with one entry per run, None where a run has no value. Metrics come from the evaluation in
    `reports`/<name of the run> or, without `reports`, in `RUN/evaluation`; otherwise from the validation that chose the
    checkpoint.

    Raises `UsageError` for fewer than two runs, a folder that is not a run, or an evaluation of another task, and
    `IntegrityError` for a damaged file.
    """
    if len(paths) < 2:
        raise UsageError("compare two runs or more: `ftrain compare RUN RUN`")
    out = None if out is None else claim_output(Path(out), "comparison")
    names = _names(paths)
    runs = [_read(path, name, reports) for path, name in zip(paths, names, strict=True)]
    found: dict[str, Any] = {
        "runs": [run.to_json() for run in runs],
        "configuration": _differences(runs),
        "metrics": _metrics(runs),
        "notes": list(_notes(runs)),
    }
    if out is not None:
        with exclusive(out):
            publish_bytes(out / TABLE_FILE, table_csv(found))
            publish_bytes(out / PLOT_FILE, plot_comparison(found))
            publish_json(out / JSON_FILE, found)
    return found


def comparison_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Format a comparison as a text table: one heading per block, one column per run."""
    runs = found["runs"]
    blocks = {
        "configuration that differs": {
            key: [_text(value) for value in values] for key, values in found["configuration"].items()
        },
        "metrics, with 95% interval where there is one": {
            name: [_metric_text(part) for part in parts] for name, parts in found["metrics"].items()
        },
    }
    rows = [["", *(run["name"] for run in runs)]]
    rows += [["task", *(run["task"] for run in runs)], ["figures of", *(run["source"] for run in runs)]]
    for title, block in blocks.items():
        rows += [[""], [title if block else f"{title}: none"]]
        rows += [[f"  {name}", *cells] for name, cells in block.items()]
    yield from aligned([*rows, *([f"NOTE: {note}"] for note in found["notes"])])


def _text(value: Any) -> str:
    if value is None:
        return _NOTHING
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _metric_text(part: Mapping[str, float] | None) -> str:
    if part is None:
        return _NOTHING
    interval = f" ({part['low']:.4f} to {part['high']:.4f})" if "low" in part and "high" in part else ""
    return f"{part['value']:.4f}{interval}"


def _names(paths: Sequence[Path]) -> list[str]:
    """Shortest trailing parts of the paths that distinguish them."""
    parts = [path.resolve().parts for path in paths]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    twice = next(str(path) for number, path in enumerate(paths) if parts[number] in parts[:number])
    raise UsageError(f"{twice}: given twice; compare different runs")


def _read(path: Path, name: str, reports: Path | None) -> _Run:
    folder = RunFolder(path)
    config = folder.config()
    dataset = folder.dataset()
    values = {
        **flat(config.model_dump(mode="json")),
        "dataset": dataset.get("dataset"),
        "shards": str(dataset.get("plan_id"))[:12],
    }
    where = path / EVALUATION_FOLDER if reports is None else reports / path.resolve().name
    if (where / REPORT_FILE).exists():
        report = read_json(where / REPORT_FILE, _EVALUATED, sealed=True)
        if report["task"] != config.task:
            raise UsageError(f"{where}: an evaluation of the task {report['task']}, but {path} is one of {config.task}")
        source = f"{report['split']} of {report.get('dataset')}, {count(report['samples'], 'sample')}, step {report['checkpoint_step']}"
    elif reports is not None:
        raise UsageError(
            f"{where}: no evaluation ({REPORT_FILE} is missing); write it with `ftrain evaluate {path} SHARDS --out {where}`"
        )
    else:
        report, source = _validation(folder)
    landmarks = dataset.get("landmark_set")
    unit = own_unit(landmark_set(str(landmarks["name"]))) if landmarks else None
    return _Run(name, path, config.task, values, report, source, unit)


def _validation(folder: RunFolder) -> tuple[dict[str, Any], str]:
    """Metrics of the validation that chose the checkpoint, as a report, and a description of their source."""
    folder.check_curve("validation.csv")
    rows = {int(row["step"]): row for row in read_curve(folder.path / "validation.csv") if row.get("step")}
    if not rows:
        return {"model": {}}, "not evaluated"
    best = folder.checkpoints / BEST_METRIC_FILE
    step = int(read_json(best, {"step": int}, sealed=True)["step"]) if best.exists() else max(rows)
    step = step if step in rows else max(rows)
    return {
        "model": {name: float(value) for name, value in rows[step].items() if value and name != "step"}
    }, f"validation at step {step}"


def _differences(runs: Sequence[_Run]) -> dict[str, list[Any]]:
    """Parameters that differ between runs; for runs of several tasks, only those that all of them have."""
    names = dict.fromkeys(name for run in runs for name in run.config if name != "task")
    if len({run.task for run in runs}) > 1:
        names = dict.fromkeys(name for name in names if all(name in run.config for run in runs))
    rows = {name: [run.config.get(name) for run in runs] for name in names}
    return {name: values for name, values in rows.items() if any(value != values[0] for value in values[1:])}


def _metrics(runs: Sequence[_Run]) -> dict[str, list[dict[str, float] | None]]:
    names = dict.fromkeys(name for run in runs for name in _key_names(run))
    if len(_units(runs)) > 1:
        names = dict.fromkeys(name for name in names if not is_of_own_unit(name))
    found = {name: [_metric(run, name) for run in runs] for name in names}
    return {name.replace("/", "_"): parts for name, parts in found.items() if any(parts)}


def _units(runs: Sequence[_Run]) -> list[str]:
    """The units of landmark errors that do not name theirs."""
    return sorted({UNITS[run.unit] for run in runs if run.unit is not None})


def _key_names(run: _Run) -> tuple[str, ...]:
    """Key metrics of a task, or the metric that chose the checkpoint if there are none."""
    task = find_task(run.task)
    return task.key_metrics if "sample" in run.source else (*task.key_metrics, task.selected_by[0])


def _metric(run: _Run, name: str) -> dict[str, float] | None:
    value = metric_value(run.report, name)
    if value is None:
        return None
    ends = {end: edge for end in ("low", "high") if (edge := metric_value(run.report, f"{name}_{end}")) is not None}
    return {"value": value, **ends}


def _notes(runs: Sequence[_Run]) -> Iterator[str]:
    if len({run.task for run in runs}) > 1:
        yield "the runs are of different tasks"
    kinds = {run.source.split(",")[0] if "sample" in run.source else run.source.split(" at ")[0] for run in runs}
    if len(units := _units(runs)) > 1:
        yield f"ne and pck are in different units ({'; '.join(units)}) and left out; compare ne_image or ne_box"
    if len(kinds) > 1:
        yield f"the metrics are of different data ({'; '.join(sorted(kinds))}), so they say little about which run is better"


def table_csv(found: Mapping[str, Any]) -> bytes:
    """One row per differing parameter and per metric, followed by the ends of its interval; one column per run."""
    rows: list[list[object]] = []
    for key, values in found["configuration"].items():
        cells = (value if isinstance(value, str) else json.dumps(value) for value in values)
        rows.append(["configuration", key, *cells])
    for name, parts in found["metrics"].items():
        for entry, suffix in (("value", ""), ("low", "_low"), ("high", "_high")):
            cells = ["" if part is None or entry not in part else float(part[entry]) for part in parts]
            if any(cell != "" for cell in cells):
                rows.append(["metric", f"{name}{suffix}", *cells])
    return csv_bytes(["block", "name", *(run["name"] for run in found["runs"])], rows)


def plot_comparison(found: Mapping[str, Any]) -> bytes:
    """Plot the metrics of a comparison as PNG, or an empty panel with a note if no run has any."""
    names, metrics = [run["name"] for run in found["runs"]], found["metrics"]
    columns = min(_COLUMNS, max(1, len(metrics)))
    rows = max(1, math.ceil(len(metrics) / columns))
    width, height = 2.6 * columns + 2.2, rows * (0.85 + 0.28 * len(names)) + 0.75
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        sources = sorted({run["source"] for run in found["runs"]})
        line = sources[0] if len(sources) == 1 else "each run on what it was evaluated on"
        draw_head(figure, "Runs compared", f"{line}; bars: 95% interval")
        panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for number, axes in enumerate(panels.flat):
            if number < len(metrics):
                name = list(metrics)[number]
                _panel(axes, name, metrics[name], names)
            else:
                axes.set_axis_off()
        if not metrics:
            figure.text(0.5, 0.4, "none of the runs was evaluated", ha="center", color=FAINT_COLOR)
        return to_png(figure)


def _panel(axes: Axes, name: str, parts: list[dict[str, float] | None], runs: list[str]) -> None:
    axes.set_title(name.replace("_", " "), size=9.5, loc="left")
    for row, part in enumerate(parts):
        if part is None:
            continue
        value, low, high = part["value"], part.get("low", part["value"]), part.get("high", part["value"])
        axes.plot([low, high], [row, row], color=MODEL_COLOR, lw=2.2, alpha=0.45, solid_capstyle="round")
        axes.plot(value, row, "o", color=MODEL_COLOR, ms=6)
        axes.annotate(
            f"{value:.3f}",
            (value, row),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            size=7.5,
            color=TEXT_COLOR,
        )
    axes.set_yticks(range(len(runs)), [shortened(run, 26) for run in runs])
    axes.set_ylim(len(runs) - 0.5, -0.7)
    axes.margins(x=0.15)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(visible=True, axis="x")
    axes.spines["left"].set_visible(False)
