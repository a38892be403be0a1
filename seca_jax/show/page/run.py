"""What a report says about a run: read from its directory, turned into what a page's template shows."""

import json
import statistics
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.show import charts, curves, style, verdict
from seca_jax.show.page import audit, svg
from seca_jax.show.page.render import Picture, Table, Tile, picture
from seca_jax.show.page.settings import changed, flat, groups, origin, resumed

PICTURES = {
    runs.BATTLE: ("One greedy battle", "GIF of a greedy battle"),
    runs.CREDIT_ORDER: (
        "Contributions and credit order over one episode",
        "contributions and places in the credit order over one episode",
    ),
}
POINTS = 200  # most points of a curve: the page stays small and a screen shows no more


class Run(NamedTuple):
    """A run's directory, read."""

    path: Path
    config: dict[str, Any]  # by dotted key, as stored: an old run may lack keys that exist now
    provenance: dict[str, Any]
    lines: list[dict[str, Any]]  # of metrics.jsonl
    evaluation: dict[str, Any] | None  # evaluation.json
    audit: audit.Audit | None  # audit.json
    pictures: list[Picture]
    warnings: list[str]  # what of its files could not be used
    joined: str = ""  # of several runs joined into one: where they are, and their seeds

    @property
    def title(self) -> str:
        """Map and learner."""
        return f"{self.config['map']}, {self.config['algo']}"

    @property
    def step(self) -> int:
        """Environment steps of the seed that has got furthest."""
        return max((line["step"] for line in self.lines), default=0)


class Battle(NamedTuple):
    """The battle that ``seca_jax.evaluate`` has drawn, in words."""

    summary: str
    order: Table | None  # who is assessed when; None: the learner assigns credit in no order


class About(NamedTuple):
    """What the template ``about.html`` shows of a run."""

    label: str
    unfinished: str
    warnings: list[str]
    headline: list[Tile]
    evaluation: Table | None
    evaluation_notes: list[str]
    spread: str
    charts: list[svg.Chart]
    battle: Battle | None
    pictures: list[Picture]
    audit: audit.Audit | None
    changed: Table
    groups: dict[str, Table]
    command: str
    origin: Table
    resumed: list[tuple[str, str]]


def read(run_dir: str | Path) -> Run:
    """A run's directory; runs of older versions too, whose configurations may lack keys.

    What ``seca_jax.evaluate`` left before the run was resumed is not read: it tells of another policy
    than the curves do.

    Raises:
        ConfigError: no run there, or one of its files is damaged; one line.
    """
    place = Path(run_dir)
    saved = max((path.stat().st_mtime for path in (place / runs.CHECKPOINTS).glob("[0-9]*")), default=0.0)
    path = place / runs.CONFIG
    if not path.is_file():
        raise ConfigError(f"{run_dir}: no run there ({runs.CONFIG} is missing); give a run directory")
    warnings: list[str] = []
    try:
        stored = yaml.safe_load(path.read_text())
        provenance = stored.pop("provenance", None) or {}
        config = flat(stored)
        missing = [name for name in ("map", "algo", "seeds", "total_steps") if name not in config]
        if missing:
            raise ValueError(f"it lacks {missing[0]}")
        for value, kind in ((config["seeds"], int), (config["total_steps"], int), (provenance, dict)):
            if not isinstance(value, kind):
                raise ValueError(f"{value!r} is no {kind.__name__}")
        path = place / runs.METRICS
        lines = runs.read_metrics(place, warnings.append)
        if warnings and not lines:
            raise ValueError("no line can be read")
        path = place / runs.EVALUATION
        newest = max(runs.checkpoint_steps(place), default=None)
        evaluation = _evaluation(path, newest, saved)
        path = place / runs.AUDIT
        audited = audit.read(place, newest)
        pictures = []
        for name, (title, alt) in PICTURES.items():
            path = place / name
            if path.is_file() and path.stat().st_mtime >= saved:
                pictures.append(picture(path, title, f"{config['map']}, {config['algo']}: {alt}"))
    except Exception as error:  # whatever a damaged file can do to its parser
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is damaged ({type(error).__name__}: {detail[:120]})") from None
    return Run(place, config, provenance, lines, evaluation, audited, pictures, warnings)


def _evaluation(path: Path, step: int | None, saved: float) -> dict[str, Any] | None:
    """evaluation.json, if it is about the newest checkpoint, from ``step``, ``saved`` at that time."""
    if not path.is_file():
        return None
    document = json.loads(path.read_text())
    evaluation_table(document)
    battle_told(document)
    if "step" in document and step is not None:
        return document if document["step"] == step else None
    return document if path.stat().st_mtime >= saved else None


def last_evaluation(run: Run, name: str) -> dict[int, float]:
    """Each seed's last value of a metric; empty where there is none."""
    return {line["seed"]: line[name] for line in run.lines if name in line}


class Final(NamedTuple):
    """A run's final greedy win rate."""

    median: float  # over seeds
    interval: verdict.Interval
    about: str  # what the interval counts
    how: str  # it was measured


def win_rate(run: Run) -> Final | None:
    """The final greedy win rate with its 95 % interval; None: not measured."""
    if run.evaluation:
        rates = [seed["win_rate"] for seed in run.evaluation["seeds"]]
        episodes = run.evaluation["episodes"]
        how = f"{episodes} greedy episodes of each seed"
    else:
        rates = [*last_evaluation(run, "test/win_rate").values()]
        episodes = run.config.get("eval.episodes")
        how = f"last evaluation of training, {episodes} episodes of each seed"
    if not rates or not isinstance(episodes, int):
        return None
    return Final(statistics.median(rates), *verdict.median_win_rate(rates, episodes), how)


def final_return(run: Run) -> float | None:
    """Median over seeds of the final greedy return, measured as the win rate is; None: not measured."""
    if run.evaluation:
        return statistics.median(seed["return"] for seed in run.evaluation["seeds"])
    final = last_evaluation(run, "test/return")
    return statistics.median(final.values()) if final else None


def final_length(run: Run) -> float | None:
    """Median over seeds of the mean length of a greedy episode, in steps; None: not measured."""
    if run.evaluation and all("length" in seed for seed in run.evaluation["seeds"]):
        return statistics.median(seed["length"] for seed in run.evaluation["seeds"])
    final = last_evaluation(run, "test/length")
    return statistics.median(final.values()) if final else None


def headline(run: Run) -> list[Tile]:
    """The numbers on top."""
    seeds, total, items = run.config["seeds"], run.config["total_steps"], []
    over = "median over seeds" if seeds > 1 else ""
    if won := win_rate(run):
        low, high = won.interval
        items.append(
            Tile(f"{won.median:.2f}", "greedy win rate", f"{over or '95 %'}: {low:.2f} to {high:.2f}")
        )
    if (returned := final_return(run)) is not None:
        items.append(Tile(f"{returned:.3g}", "greedy return", over))
    if (length := final_length(run)) is not None:
        items.append(Tile(f"{length:.3g}", "steps a greedy episode", over))
    items.append(
        Tile(str(seeds), "seeds" if seeds != 1 else "seed", f"first seed {run.config.get('seed', 0)}")
    )
    of = "of each seed" if run.step >= total else f"of {total:,} asked for"
    items.append(Tile(style.short(run.step), "environment steps", of))
    rates = [line["perf/steps_per_s"] for line in run.lines if "perf/steps_per_s" in line]
    if rates:
        device = str(run.provenance.get("device", ""))
        items.append(Tile(style.short(statistics.median(rates)), "steps/s, all seeds", device))
    if run.lines:
        seconds = max(line["wall_s"] for line in run.lines)
        items.append(Tile(duration(seconds), "wall clock", "compilation included"))
    return items


def duration(seconds: float) -> str:
    """4000 -> 1.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def learning(run: Run) -> list[svg.Chart]:
    """Its learning curves."""
    return [
        svg.chart(
            panel.title,
            curves.of_panel(panel, run.lines, POINTS),
            limits=panel.limits,
            log=panel.log,
            looks=curves.looks(panel),
        )
        for panel in curves.present(run.lines)
    ]


def curve(run: Run, name: str, label: str) -> charts.Curve:
    """Quartiles over seeds of a metric."""
    return charts.Curve(label, *curves.quartiles(run.lines, name, POINTS))


def evaluation_table(document: dict[str, Any]) -> Table:
    """Every seed's greedy win rate with its interval, as ``seca_jax.evaluate`` writes it."""
    rows = []
    for seed in document["seeds"]:
        low, high = seed["ci95"]
        rows.append((str(seed["seed"]), *_rate(seed["win_rate"], low, high), f"{seed['return']:.3f}"))
    rates = [seed["win_rate"] for seed in document["seeds"]]
    if len(rates) > 1:
        (low, high), _ = verdict.median_win_rate(rates, document["episodes"])
        rows.append(("median", *_rate(document["median_win_rate"], low, high), ""))
    names = ("seed", "win rate", "95 % interval", "0 to 1", "return")
    return Table(names, rows, numbers=(1, 2, 4), stacked=False)


def _rate(rate: float, low: float, high: float) -> tuple[str, str, str]:
    """A win rate, its interval, both drawn."""
    words = f"{low:.3f} to {high:.3f}"
    return f"{rate:.3f}", words, svg.interval(rate, low, high, f"{rate:.3f}, {words}, on a scale from 0 to 1")


def final_evaluation(run: Run) -> tuple[Table | None, list[str]]:
    """The table of the final greedy win rates, and how they were measured."""
    seeds = "Of a seed Wilson's interval over its episodes"
    several = f"{seeds}, of the median a bootstrap over seeds."
    if document := run.evaluation:
        after = f" after {document['step']:,} steps" if "step" in document else ""
        note = f"{document['episodes']} whole greedy episodes of each seed{after}. "
        return evaluation_table(document), [note + (several if len(document["seeds"]) > 1 else f"{seeds}.")]
    final, returns = last_evaluation(run, "test/win_rate"), last_evaluation(run, "test/return")
    episodes = run.config.get("eval.episodes")
    if not final or not isinstance(episodes, int):
        return None, []
    rows = []
    for seed, rate in sorted(final.items()):
        interval = verdict.win_rate(round(rate * episodes), episodes)
        rows.append({"seed": seed, "win_rate": rate, "ci95": interval, "return": returns.get(seed, 0.0)})
    document = {"seeds": rows, "episodes": episodes, "median_win_rate": statistics.median(final.values())}
    note = f"From the last evaluation of training, {episodes} whole greedy episodes of each seed. "
    notes = [note + (several if len(rows) > 1 else f"{seeds}.")]
    if runs.checkpoint_steps(run.path):
        notes.append(
            f"python -m seca_jax.evaluate run={run.path} plays more, and draws a battle where it can."
        )
    return evaluation_table(document), notes


def battle_told(document: dict[str, Any]) -> Battle | None:
    """The battle of an evaluation's document in words; None where it holds none."""
    battle = document.get("battle")
    if battle is None:
        return None
    summary = (
        f"One greedy episode of seed {battle['seed']}: {battle['ending']} after {battle['steps']} steps, "
        f"return {battle['return']:.3g}."
    )
    if not battle["order"]:
        return Battle(summary, None)
    rows = []
    for part in battle["order"]:
        first, last = part["first"], part["last"]
        when = f"{first} to {last}" if last > first else f"{first}"
        rows.append((when, " > ".join(part["agents"])))
    return Battle(summary, Table(("steps", f"assessed first to last ({battle['credit_order']})"), rows))


def about(run: Run, label: str = "") -> About:
    """Everything about one run."""
    seeds = len({line["seed"] for line in run.lines})
    total = run.config["total_steps"]
    evaluation, notes = final_evaluation(run)
    spread = f"Median over {seeds} seeds, in a band from quartile to quartile." if seeds > 1 else "One seed."
    return About(
        label=label or run.title,
        unfinished=f"Unfinished: {run.step:,} of {total:,} steps." if run.step < total else "",
        warnings=run.warnings,
        headline=headline(run),
        evaluation=evaluation,
        evaluation_notes=notes,
        spread=spread + (f" Joined: {run.joined}." if run.joined else ""),
        charts=learning(run),
        battle=battle_told(run.evaluation) if run.evaluation else None,
        pictures=run.pictures,
        audit=run.audit,
        changed=changed(run),
        groups=groups(run),
        command=str(run.provenance.get("command") or ""),
        origin=origin(run),
        resumed=resumed(run),
    )
