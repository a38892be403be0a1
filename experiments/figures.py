"""The figures as lists of runs: what is compared on which map."""

from collections.abc import Iterable
from typing import NamedTuple

import search
from budgets import MAPS, SMALL_SLOW_ON, SMALL_SLOW_WORDS, Run, settings

from seca_jax.config.check import ConfigError

# jaxmarl's fourteen and the three it lacks
EVERY_MAP = (
    *("3m", "2s3z", "3s5z", "8m", "25m", "5m_vs_6m", "10m_vs_11m", "27m_vs_30m", "3s5z_vs_3s6z", "3s_vs_5z"),
    *("6h_vs_8z", "smacv2_5_units", "smacv2_10_units", "smacv2_20_units", "1c3s5z", "2c_vs_64zg", "MMM2"),
)
SLOW = ("25m", "27m_vs_30m", "smacv2_20_units")  # twenty agents and more: half the steps, three seeds


class Panel(NamedTuple):
    """One set of axes."""

    title: str
    metric: str  # of metrics.jsonl
    axis: str  # what the metric is called
    runs: tuple[Run, ...]


def _algorithms(map_name: str, names: Iterable[str], *words: str) -> tuple[Run, ...]:
    return tuple(Run(LABELS[name], name, map_name, (f"algo={name}", *words)) for name in names)


def _budgeted(map_name: str, steps: int, *names: str) -> tuple[Run, ...]:
    """Learners with a budget of their own, whatever the scale."""
    return _algorithms(map_name, names, f"total_steps={steps}")


def _orders(map_name: str, *orders: str) -> tuple[Run, ...]:
    names = {"ig-episode": "seca"}  # SeCA's default: the run that other panels show
    return tuple(
        Run(f"SeCA, {order}", names.get(order, f"seca-{order}"), map_name, (f"credit.order={order}",))
        for order in orders
    )


def _battle(map_name: str, runs: tuple[Run, ...], title: str = "") -> Panel:
    return Panel(title or map_name, "test/win_rate", "greedy win rate", runs)


def _ten_seeds(map_name: str, runs: tuple[Run, ...], title: str) -> Panel:
    """At scale=small ten seeds of 300,000 steps, for differences that five cannot show."""
    words = ("seeds=10", *SMALL_SLOW_WORDS)
    return _battle(map_name, tuple(run._replace(small=words) for run in runs), title)


def _by_speed(map_name: str, names: tuple[str, ...]) -> tuple[Run, ...]:
    """At scale=small a million steps, or 300,000 of a learner that is slow on the map."""
    slow = SMALL_SLOW_ON.get(map_name, ())
    return tuple(
        run._replace(small=SMALL_SLOW_WORDS) if run.name in slow else run
        for run in _algorithms(map_name, names)
    )


def _question(number: str, question: str) -> Panel:
    own = search.ROUNDS[number]
    runs = tuple(
        Run(search.label(number, words), search.name(number, words), own.map, search.command(number, words))
        for words in own.questions[question]
    )
    return _battle(own.map, runs, f"round {number}, {own.map}: {question}")


def _questions(*rounds: str) -> tuple[Panel, ...]:
    return tuple(
        _question(number, question) for number in rounds for question in search.ROUNDS[number].questions
    )


LABELS = {
    "seca": "SeCA",
    "coma_newarchi": "COMA-newArchi",
    "coma": "COMA",
    "lica": "LICA",
    "qmix": "QMIX",
    "vdn": "VDN",
    "qtran": "QTRAN",
    "mappo": "MAPPO",
    "ippo": "IPPO",
    "pqn_vdn": "PQN-VDN",
    "sqddpg": "SQDDPG",
    "qplex": "QPLEX",
    "qpd": "QPD",
}
"""In legends, by learner; the order is that of colours."""
FIGURE_5 = (
    "seca",
    "coma",
    "lica",
    "qmix",
    "qtran",
    "mappo",
    "qplex",
    "coma_newarchi",
)  # the paper's, and rivals
ON_POLICY = ("seca", "coma_newarchi", "coma", "lica", "mappo", "ippo", "sqddpg")
VALUE_BASED = ("vdn", "qmix", "qtran", "qplex", "qpd", "pqn_vdn")
ADVANTAGES = ("seca", "coma_newarchi", "coma")


def _side_by_side(map_name: str, what: str, names: tuple[str, ...]) -> Panel:
    """Learners at one budget that the slowest can pay; SeCA is in every panel, to compare with."""
    words = ("total_steps=300_000", "eval.interval=20_000", "log.interval=20_000", "eval.episodes=64")
    runs = _algorithms(map_name, names, *words)
    return _battle(map_name, runs, f"{map_name}, {what}")


def _starts(map_name: str, *words: str) -> tuple[Run, ...]:
    """SeCA from either untrained policy."""
    return (
        Run("uniform (the default)", "seca", map_name, ("algo=seca", *words)),
        Run("balanced", "seca-balanced", map_name, ("actor.start=balanced", *words)),
    )


def _variants(
    map_name: str, kinds: dict[tuple[str, str], tuple[str, ...]], words: tuple[str, ...]
) -> tuple[Run, ...]:
    """Runs by (label, name), each with words of its own before those of all."""
    return tuple(Run(label, name, map_name, (*own, *words)) for (label, name), own in kinds.items())


# SeCA's defaults before: V of the state, eight passes over it, and the paper's network for credit
DUELING = ("critic.kind=dueling", "critic.updates=8", "critic.credit_stride=4", "critic.surprise_lam=0")
TWO_PASSES = ("actor.epochs=2",)  # of the actor, the default before
JOINT = (
    *("algo=seca", "critic.kind=joint", "critic.updates=4"),
    *("credit.calibrate=false", "credit.lam=-1"),
)  # SeCA with the paper's critic, in its other settings as the default


def _two_passes(map_name: str) -> tuple[Run, ...]:
    """SeCA and without credit, with its critic and the paper's; other orders; other advantages."""
    words = ("seeds=12", "seed=100", "total_steps=300_000", "eval.interval=25_000", "log.interval=25_000")
    kinds = {
        ("SeCA", "seca"): ("algo=seca", *DUELING),
        ("no credit", "seca-none"): ("algo=seca", *DUELING, "credit.weight=0"),
        ("order fixed", "seca-fixed"): ("algo=seca", *DUELING, "credit.order=fixed"),
        ("order random", "seca-random"): ("algo=seca", *DUELING, "credit.order=random"),
        ("paper's critic", "seca-joint"): JOINT,
        ("paper's critic, no credit", "seca-joint-none"): (*JOINT, "credit.weight=0"),
        ("COMA-newArchi", "coma_newarchi"): ("algo=coma_newarchi", *DUELING),
        ("COMA", "coma"): ("algo=coma",),
    }
    return _variants(map_name, kinds, (*TWO_PASSES, *words))


def _credits(map_name: str, *seeds: str) -> tuple[Run, ...]:
    """With credit and without; other orders; the rivals; the critics that were the default before."""
    words = (*seeds, "total_steps=300_000", "eval.interval=25_000", "log.interval=25_000")
    kinds = {
        ("SeCA", "seca"): ("algo=seca",),
        ("no credit", "seca-none"): ("algo=seca", "credit.weight=0"),
        ("order fixed", "seca-fixed"): ("algo=seca", "credit.order=fixed"),
        ("order random", "seca-random"): ("algo=seca", "credit.order=random"),
        ("COMA-newArchi", "coma_newarchi"): ("algo=coma_newarchi",),
        ("COMA", "coma"): ("algo=coma",),
        ("MAPPO", "mappo"): ("algo=mappo",),
        ("SeCA, V of the state", "seca-dueling"): ("algo=seca", *DUELING),
        ("paper's critic", "seca-joint"): JOINT,
    }
    return _variants(map_name, kinds, words)


def _longer(map_name: str) -> tuple[Run, ...]:
    """With credit and without, on other and more seeds than those of :func:`_two_passes`, for longer."""
    words = ("seeds=24", "seed=200", "total_steps=600_000", "eval.interval=50_000", "log.interval=50_000")
    kinds = {
        ("SeCA", "seca"): ("algo=seca", *DUELING, *TWO_PASSES),
        ("no credit", "seca-none"): ("algo=seca", "credit.weight=0", *DUELING, *TWO_PASSES),
        ("MAPPO", "mappo"): ("algo=mappo",),
    }
    return _variants(map_name, kinds, words)


def _crowds(map_name: str) -> tuple[Run, ...]:
    """Whose doing a reward was, known and unknown, in games of one step."""
    words = ("num_envs=16", "window=8", "seeds=12", "seed=100", "total_steps=5_120", "log.interval=128")
    words += ("eval.interval=1_280", "eval.episodes=64")
    kinds = {
        ("SeCA", "seca"): ("algo=seca",),
        ("no credit", "seca-none"): ("algo=seca", "credit.weight=0"),
        ("credit not calibrated", "seca-full"): ("algo=seca", "credit.calibrate=false"),
        ("paper's critic", "seca-joint"): JOINT,
        ("COMA-newArchi", "coma_newarchi"): ("algo=coma_newarchi",),
        ("COMA", "coma"): ("algo=coma",),
        ("MAPPO", "mappo"): ("algo=mappo",),
    }
    return _variants(map_name, kinds, words)


def _wide(map_name: str, many: bool, *words: str) -> tuple[Run, ...]:
    """As many environments as an accelerator wants; ``many`` further ways, with fewer seeds."""
    words += ("seed=100", "eval.interval=25_000", "log.interval=25_000")
    wide = "algo=seca", "preset=accelerator"
    more = "actor.minibatches=8", "critic.minibatches=8"
    most = "actor.minibatches=16", "critic.minibatches=16"
    kinds = {
        ("64 environments (the default)", "seca"): ("algo=seca",),
        ("512 (preset=accelerator)", "seca-512"): wide,
    }
    ways = {
        ("512, nothing known of what follows", "seca-512-0"): (*wide, "lookahead=0"),
        ("1,024, one window known", "seca-1024-1"): (*wide, "num_envs=1024", *more, "lookahead=1"),
        ("1,024, three windows known", "seca-1024-3"): (*wide, "num_envs=1024", *more, "lookahead=3"),
        ("4,096 x 4", "seca-4096-3"): (*wide, "num_envs=4096", "window=4", *most, "lookahead=3"),
    }
    fewer = (*(word for word in words if not word.startswith("seeds=")), "seeds=4")
    return _variants(map_name, kinds, words) + (_variants(map_name, ways, fewer) if many else ())


def _many(map_name: str) -> tuple[Run, ...]:
    """SeCA for two million steps; on maps of very many agents for half of them, with three seeds."""
    if map_name in SLOW:
        return _algorithms(map_name, ["seca"], "total_steps=1000000", "seeds=3")
    return _budgeted(map_name, 2_000_000, "seca")


FIGURES: dict[str, tuple[Panel, ...]] = {
    "figure2": (
        Panel(
            "Predator-Prey",
            "test/length",
            "steps until capture (fewer are better)",
            _algorithms("predator_prey", ADVANTAGES),
        ),
        Panel(
            "Cooperative Navigation",
            "test/return",
            "return",
            _algorithms("cooperative_navigation", ADVANTAGES),
        ),
    ),
    "figure4": (
        _ten_seeds("MMM2", _algorithms("MMM2", ADVANTAGES), "(a) advantages, MMM2"),
        _ten_seeds("MMM2", _orders("MMM2", "fixed", "prob", "entropy", "ig-1"), "(b) orders, MMM2"),
        _ten_seeds("MMM2", _orders("MMM2", "ig-1", "ig-10", "ig-20", "ig-episode"), "(c) stages, MMM2"),
    ),
    "figure5": tuple(_battle(name, _by_speed(name, FIGURE_5)) for name in MAPS),
    "baselines": (
        _battle(
            "3m",
            (
                *_budgeted("3m", 4_000_000, "seca"),
                *_budgeted("3m", 1_000_000, "coma_newarchi", "coma", "lica"),
                *_budgeted("3m", 300_000, "qmix", "vdn", "qtran"),
            ),
        ),
        _battle("2s3z", _budgeted("2s3z", 1_000_000, "seca", "coma_newarchi", "lica")),
    ),
    "learners": tuple(
        panel
        for name in ("2s3z", "3s_vs_5z")
        for panel in (
            _side_by_side(name, "on-policy", ON_POLICY),
            _side_by_side(name, "value-based beside SeCA", ("seca", *VALUE_BASED)),
        )
    ),
    "maps": (
        _battle("3m", _budgeted("3m", 10_000_000, "seca")),
        _battle("3s_vs_5z", _budgeted("3s_vs_5z", 1_000_000, "seca")),
        _battle("3s5z", _budgeted("3s5z", 500_000, "seca")),
        _battle("3s5z_vs_3s6z", _budgeted("3s5z_vs_3s6z", 1_500_000, "seca")),
    ),
    "smax": tuple(_battle(name, _many(name)) for name in EVERY_MAP),
    "credit": (
        _battle("3s_vs_5z", _credits("3s_vs_5z", "seeds=24", "seed=300")),
        *(_battle(name, _credits(name, "seeds=12", "seed=100")) for name in ("2s3z", "3s5z_vs_3s6z", "3m")),
    ),
    "two_passes": tuple(
        _battle(name, _two_passes(name)) for name in ("3m", "2s3z", "3s_vs_5z", "3s5z_vs_3s6z")
    ),
    "wide": (
        _battle("2s3z", _wide("2s3z", True, "seeds=12", "total_steps=300_000")),
        _battle("3s_vs_5z", _wide("3s_vs_5z", False, "seeds=5", "total_steps=500_000")),
    ),
    "longer": (_battle("3s_vs_5z", _longer("3s_vs_5z")),),
    "crowd": tuple(
        Panel(name, "train/return", "agents that are right, sampling policy", _crowds(name))
        for name in ("crowd_8", "roles_8", "crowd_32", "roles_32")
    ),
    "start": (_battle("2c_vs_64zg", _starts("2c_vs_64zg", "total_steps=600_000", "eval.interval=50_000")),),
    "search": _questions("1", "2", "3", "4", "5", "6"),
    "budget": _questions("7", "8"),
    "confirm": _questions("9", "10"),
}


def looks(panels: Iterable[Panel], most: int) -> dict[str, dict[str, int]]:
    """A number for every run, by title of panel and name of run, that stands for its colour.

    A run has the same in all panels, whichever of them are drawn, and a learner the same in all figures;
    where a figure has more than ``most`` runs, every panel counts anew.
    """
    panels = list(panels)
    names = list(dict.fromkeys(run.name for panel in panels for run in panel.runs))
    if len(names) > most:
        return {panel.title: {run.name: i for i, run in enumerate(panel.runs)} for panel in panels}
    learners = {name: i for i, name in enumerate(LABELS) if name in names}
    free = [i for i in range(most) if i not in learners.values()]
    others = dict(zip((name for name in names if name not in learners), free))
    return {panel.title: learners | others for panel in panels}


def asked(words: list[str]) -> tuple[str, dict[str, str]]:
    """The figure that a command line names, and its key=value words; raises ConfigError."""
    options = dict(word.split("=", 1) for word in words if "=" in word)
    names = [word for word in words if "=" not in word]
    if not names:
        raise ConfigError(f"which figure? one of {', '.join(FIGURES)}; --help tells more")
    if names[0] not in FIGURES:
        raise ConfigError(f"{names[0]}: no such figure; one of {', '.join(FIGURES)}")
    if names[1:]:
        raise ConfigError(f"{names[1]}: expected key=value; one figure at a time")
    return names[0], options


def each_once(panels: Iterable[Panel]) -> dict[tuple[str, str], Run]:
    """Runs by (map, name), their place: panels may share one under several labels; the first counts."""
    found: dict[tuple[str, str], Run] = {}
    for run in (run for panel in panels for run in panel.runs):
        found.setdefault((run.map, run.name), run)
    return found


def scaled(figure: str) -> bool:
    """Whether the figure's budgets depend on the scale."""
    runs = each_once(FIGURES[figure]).values()
    return any(settings(run, "paper") != settings(run, "small") for run in runs)
