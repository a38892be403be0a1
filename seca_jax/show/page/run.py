"""What a report says about a run: read from its directory, turned into parts of a page."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config, keys
from seca_jax.evaluate import FILES
from seca_jax.show import curves, verdict
from seca_jax.show.page import charts, html

# (metrics drawn in a panel, its title, range of the vertical axis, logarithmic)
PANELS = (
    (("test/win_rate", "train/win_rate"), "win rate", (-0.02, 1.02), False),
    (("test/return", "train/return"), "return", None, False),
    (("test/length", "train/length"), "episode length (steps)", None, False),
    (("train/entropy",), "policy entropy (nats)", None, False),
    (("train/epsilon",), "share of random actions", (-0.02, 1.02), False),
    (("train/critic_loss",), "critic loss", None, True),
)
PICTURES = (
    ("gif", "One greedy battle", "GIF of a greedy battle"),
    (
        "plot",
        "Contributions and credit order over one episode",
        "contributions and places in the credit order over one episode",
    ),
)
# Where and how a run is watched, not what it computes; and what its title says already
NOT_SETTINGS = ("map", "algo", "preset", "out", "name", "resume", "log.progress") + tuple(
    name for name, _ in keys() if name.startswith("wandb.")
)
POINTS = 200  # most points of a curve: the page stays small and a screen shows no more


class Run(NamedTuple):
    """A run's directory, read."""

    path: Path
    config: dict[str, Any]  # by dotted key, as stored: an old run may lack keys that exist now
    provenance: dict[str, Any]
    lines: list[dict[str, Any]]  # of metrics.jsonl
    evaluation: dict[str, Any] | None  # evaluation.json
    pictures: dict[str, Path]  # by FILES' names, those that exist

    @property
    def title(self) -> str:
        return f"{self.config['map']}, {self.config['algo']}"

    @property
    def step(self) -> int:
        """Environment steps of the seed that has got furthest."""
        return max((line["step"] for line in self.lines), default=0)


def flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A nested dict's leaves by dotted key."""
    leaves = {}
    for name, value in tree.items():
        inner = isinstance(value, dict) and value
        leaves |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return leaves


def read(run_dir: str | Path) -> Run:
    """A run's directory; runs of older versions too, whose configurations may lack keys.

    Raises:
        ConfigError: no run there, or one of its files is damaged; one line.
    """
    place = Path(run_dir)
    saved = max((path.stat().st_mtime for path in (place / runs.CHECKPOINTS).glob("[0-9]*")), default=0.0)

    def current(path: Path) -> bool:
        # What evaluate left before the run was resumed tells of another policy than the curves do
        return path.is_file() and path.stat().st_mtime >= saved

    path = place / runs.CONFIG
    if not path.is_file():
        raise ConfigError(f"{run_dir}: no run there (config.yaml is missing); give a run directory")
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
        path, damage = place / runs.METRICS, []
        lines = runs.read_metrics(place, damage.append)
        if damage and not lines:
            raise ValueError("it holds no line that can be read")
        path = place / FILES["json"]
        evaluation = json.loads(path.read_text()) if current(path) else None
        if evaluation:
            evaluation_table(evaluation)
        for path in (place / name for name in FILES.values() if not name.endswith(".json")):
            if current(path):
                html.picture(path, "")
    except Exception as error:  # whatever a damaged file can do to its parser
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path} is damaged ({type(error).__name__}: {detail[:120]})") from None
    pictures = {name: place / FILES[name] for name, _, _ in PICTURES if current(place / FILES[name])}
    return Run(place, config, provenance, lines, evaluation, pictures)


def last_evaluation(run: Run, name: str) -> dict[int, float]:
    """Each seed's last value of a metric; empty where there is none."""
    return {line["seed"]: line[name] for line in run.lines if name in line}


def curve(run: Run, name: str, label: str) -> charts.Curve:
    """Quartiles over seeds of a metric."""
    return charts.Curve(label, *curves.quartiles(run.lines, name, POINTS))


def win_rate(run: Run) -> tuple[float, str] | None:
    """(median over seeds of the final greedy win rate, how it was measured); None: not measured."""
    if run.evaluation:
        return run.evaluation["median_win_rate"], f"{run.evaluation['episodes']} greedy episodes of each seed"
    final = last_evaluation(run, "test/win_rate")
    if not final:
        return None
    episodes = run.config.get("eval.episodes", "?")
    return statistics.median(final.values()), f"last evaluation of training, {episodes} episodes of each seed"


def final_return(run: Run) -> float | None:
    """Median over seeds of the final greedy return, measured as the win rate is; None: not measured."""
    if run.evaluation:
        return statistics.median(seed["return"] for seed in run.evaluation["seeds"])
    final = last_evaluation(run, "test/return")
    return statistics.median(final.values()) if final else None


def headline(run: Run) -> str:
    """The numbers on top."""
    seeds, total, items = run.config["seeds"], run.config["total_steps"], []
    over = "median over seeds" if seeds > 1 else ""
    if won := win_rate(run):
        items.append((f"{won[0]:.2f}", "greedy win rate", over))
    if (returned := final_return(run)) is not None:
        items.append((f"{returned:.3g}", "greedy return", over))
    if lengths := last_evaluation(run, "test/length"):
        value = f"{statistics.median(lengths.values()):.3g}"
        items.append((value, "steps a greedy episode", over))
    items.append((str(seeds), "seeds" if seeds != 1 else "seed", f"first seed {run.config.get('seed', 0)}"))
    of = "of each seed" if run.step >= total else f"of {total:,} asked for"
    items.append((charts.short(run.step), "environment steps", of))
    rates = [line["perf/steps_per_s"] for line in run.lines if "perf/steps_per_s" in line]
    if rates:
        device = str(run.provenance.get("device", ""))
        items.append((charts.short(statistics.median(rates)), "steps/s, all seeds", device))
    if run.lines:
        seconds = max(line["wall_s"] for line in run.lines)
        items.append((duration(seconds), "wall clock", "compilation included"))
    return html.tiles(items)


def duration(seconds: float) -> str:
    """4000 -> 1.1 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def learning(run: Run) -> str:
    """Its learning curves."""
    if not run.lines:
        return html.paragraph("No metrics yet: metrics.jsonl is missing or empty.", "warn")
    drawn = []
    for names, title, limits, log in PANELS:
        own = [curve(run, name, curves.LABELS[name.partition("/")[0]]) for name in names]
        if any(len(c.steps) for c in own):
            drawn.append(charts.chart(title, own, limits=limits, log=log))
    seeds = len({line["seed"] for line in run.lines})
    spread = f"Median over {seeds} seeds, in a band from quartile to quartile." if seeds > 1 else "One seed."
    return html.paragraph(spread, "soft") + f'<div class="charts">{"".join(drawn)}</div>'


def evaluation_table(document: dict[str, Any]) -> str:
    """Every seed's greedy win rate with its interval, as ``seca_jax.evaluate`` writes it."""
    rows = []
    for seed in document["seeds"]:
        (low, high), rate = seed["ci95"], seed["win_rate"]
        words = f"{low:.3f} to {high:.3f}"
        picture = charts.interval(rate, low, high, f"{rate:.3f}, {words}, on a scale from 0 to 1")
        rows.append((str(seed["seed"]), f"{rate:.3f}", words, picture, f"{seed['return']:.3f}"))
    rows.append(("median", f"{document['median_win_rate']:.3f}", "", "", ""))
    names = ("seed", "win rate", "95 % interval", "0 to 1", "return")
    note = f"{document['episodes']} whole greedy episodes of each seed; Wilson's interval."
    return html.paragraph(note, "soft") + html.table(names, rows, numbers=(1, 4), html=(3,))


def final_table(run: Run) -> str:
    """Every seed's last evaluation while training, where there is no evaluation.json."""
    final, returns = last_evaluation(run, "test/win_rate"), last_evaluation(run, "test/return")
    episodes = run.config.get("eval.episodes")
    if not final or not isinstance(episodes, int):
        return ""
    seeds = []
    for seed, rate in sorted(final.items()):
        interval = verdict.win_rate(round(rate * episodes), episodes)
        seeds.append({"seed": seed, "win_rate": rate, "ci95": interval, "return": returns.get(seed, 0.0)})
    document = {"seeds": seeds, "episodes": episodes, "median_win_rate": statistics.median(final.values())}
    note = "From the last evaluation of training."
    if (run.path / runs.CHECKPOINTS).is_dir():
        note += f" python -m seca_jax.evaluate run={run.path} plays more and draws a battle."
    return html.paragraph(note, "soft") + evaluation_table(document)


def pictures(run: Run) -> str:
    """Battle and credit order, where they have been drawn."""
    parts = []
    for name, title, alt in PICTURES:
        if name in run.pictures:
            body = html.picture(run.pictures[name], f"{run.title}: {alt}")
            # In a fold, so that a film that moves can be put away
            parts.append(html.fold(title, body, opened=True))
    return "".join(parts)


def defaults(config: dict[str, Any]) -> dict[str, Any]:
    """What a run of this learner and preset has today where nothing else is said, by dotted key."""
    from seca_jax.config import compose

    values = {name: config[name] for name in compose.GROUPS if name in config}
    try:
        return flat(asdict(compose.compose(values)))
    except ConfigError:  # a learner or preset that exists no more
        return flat(asdict(Config()))


def shown(value: Any) -> str:
    """A configuration's value as the command line takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "(empty)" if value in ("", None) else f"{value:_}" if isinstance(value, int) else str(value)


def configuration(run: Run) -> str:
    """What differs from the defaults, then every key, by group."""
    usual = defaults(run.config)
    documented = {name: field.metadata["doc"] for name, field in keys()}
    changed = [
        (name, shown(value), shown(usual[name]))
        for name, value in run.config.items()
        if name in usual and name not in NOT_SETTINGS and value != usual[name]
    ]
    if changed:
        head = html.paragraph("What differs from today's defaults of this learner and preset:")
        head += html.table(("key", "here", "default"), changed)
    else:
        head = html.paragraph("Everything is at today's defaults of this learner and preset.")
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for name, value in run.config.items():
        group = name.partition(".")[0] if "." in name else "run"
        groups.setdefault(group, []).append((name, shown(value), documented.get(name, "")))
    folds = [
        html.fold(f"{group} ({len(rows)})", html.table(("key", "value", "meaning"), rows, wide=(2,)))
        for group, rows in groups.items()
    ]
    return head + "".join(folds)


def origin(run: Run) -> str:
    """Where the numbers come from: command, commit, device, versions, resumptions."""
    stored = run.provenance
    parts = [html.command(str(stored["command"]))] if stored.get("command") else []
    rows = [
        (name, str(stored[entry]))
        for entry, name in (
            ("started", "started"),
            ("git_commit", "git commit"),
            ("device", "device"),
            ("platform", "platform"),
        )
        if stored.get(entry)
    ]
    versions = stored.get("versions")
    if isinstance(versions, dict):
        rows += [(str(name), str(number)) for name, number in versions.items()]
    parts.append(html.table(("", ""), rows) if rows else html.paragraph("Not recorded.", "soft"))
    for again in stored.get("resumed") or ():
        if isinstance(again, dict):
            when = f"Resumed {again.get('started', '')}, commit {again.get('git_commit')}:"
            parts += [html.paragraph(when), html.command(str(again.get("command", "")))]
    return "".join(parts)


def sections(run: Run) -> str:
    """Everything about one run, headline first."""
    stopped = ""
    if run.step < run.config["total_steps"]:
        words = f"Unfinished: {run.step:,} of {run.config['total_steps']:,} steps."
        stopped = html.paragraph(words, "warn")
    table = evaluation_table(run.evaluation) if run.evaluation else final_table(run)
    return (
        stopped
        + headline(run)
        + html.section("Greedy evaluation", table)
        + html.section("Learning curves", learning(run))
        + html.section("Battle and credit", pictures(run))
        + html.section("Configuration", configuration(run))
        + html.section("Provenance", origin(run))
    )


def differences(runs: Sequence[Run], labels: Sequence[str]) -> str:
    """A table of the keys in which runs differ, or a word where they do not.

    A run stored before a key existed lacks it ("-"), which alone makes no difference.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.config if name not in NOT_SETTINGS))
    rows = []
    for name in names:
        values = [shown(run.config[name]) if name in run.config else "-" for run in runs]
        if len(set(values) - {"-"}) > 1:
            rows.append((name, *values))
    if not rows:
        return html.paragraph("The runs have the same configuration but for map, learner and preset.", "soft")
    return html.table(("key", *labels), rows)
