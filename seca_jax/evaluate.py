"""Judge a trained run: ``python -m seca_jax.evaluate run=<dir>``.

Win rate of every seed with its 95 % interval over whole episodes, a GIF of one battle, and the order in
which credit was assigned in it.
"""

from seca_jax import door

if __name__ == "__main__":
    door.quietly()

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, NamedTuple

from seca_jax import runs
from seca_jax.config import commands
from seca_jax.config.check import ConfigError, check
from seca_jax.config.keys import key, replace
from seca_jax.config.learners import unread
from seca_jax.config.words import options as checked_options

CHUNK = 256  # episodes of one seed that run side by side: bounds memory however many are asked for
FILES = {"json": runs.EVALUATION, "gif": runs.BATTLE, "plot": runs.CREDIT_ORDER}  # in the run's directory
SUFFIXES = {"gif": (".gif",), "plot": (".png", ".svg", ".pdf")}  # what can be drawn


@dataclass(frozen=True)
class Options:
    """Keys of the command line, beside a bare directory."""

    run: str = key(
        "", "directory of the run, or pretrained:2s3z (required); the directory alone will do", path=True
    )
    step: str = key("", "checkpoint that plays: a step, or best (checkpoint.best=true); empty: the newest")
    map: str = key("", "map to play on; empty: the run's own", path=True)
    episodes: int = key(128, "whole episodes of each seed", low=1)
    sampled: bool = key(False, "draw the actions, as in training; else the best ones are taken")
    json: str = key("", "file for the numbers, or none; unless given, <run>/evaluation.json", path=True)
    gif: str = key("", "file for a battle, .gif, or none; unless given, <run>/battle.gif", path=True)
    plot: str = key(
        "",
        "file for the credit order, .png, .svg or .pdf, or none; unless given, <run>/credit_order.png",
        path=True,
    )
    seed: str = key("best", "seed of the run whose battle is drawn: a number, or best")
    episode_seed: int = key(12345, "seed of the episodes; another number, other battles", low=0)
    size: int = key(640, "width of the battle in the GIF, in pixels", low=160, high=2000)
    order: str = key("", "credit order to show instead of the run's own, e.g. ig-10; seca only")
    device: str = key("auto", "auto, cpu, gpu or tpu", choices=("auto", "cpu", "gpu", "tpu"))


def options(words: list[str]) -> Options:
    """Checked options from ``key=value`` words.

    Raises:
        ConfigError: one line, saying what is wrong and what would be right.
    """
    chosen: Options = checked_options(runs.one(words), Options)
    if not chosen.run:
        raise ConfigError("run=<directory> is required: which run to evaluate; --help lists all keys")
    for name, suffixes in SUFFIXES.items():
        given = getattr(chosen, name)
        if given not in ("", "none") and Path(given).suffix.lower() not in suffixes:
            raise ConfigError(f"{name}={given}: give a file that ends in {' or '.join(suffixes)}, or none")
    if chosen.step not in ("", "best") and not chosen.step.isdigit():
        raise ConfigError(f"step={chosen.step}: must be a step of a checkpoint, or best")
    if chosen.seed != "best" and not chosen.seed.isdigit():
        raise ConfigError(f"seed={chosen.seed}: must be a seed of the run, or best")
    return chosen


def special(chosen: Options, own_map: str) -> str:
    """What names of files end in by default where another map, checkpoint or policy is asked for.

    Else the run's own evaluation, which its report shows, would be lost.
    """
    elsewhere = chosen.map if chosen.map != own_map else ""
    parts = [Path(elsewhere).stem, chosen.step and f"step-{chosen.step}", "sampled" if chosen.sampled else ""]
    return "".join(f"-{part}" for part in parts if part)


def win_rates(
    env: Any, algorithm: Any, params: Any, seed: int, episodes: int, sampled: bool = False
) -> dict[str, Any]:
    """Episodes of every seed.

    Args:
        env: Environment.
        algorithm: Learner made for it.
        params: leaves [seeds, ...].
        seed: of the episodes.
        episodes: E, of each seed.
        sampled: actions are drawn; else the best are taken.

    Returns:
        ``won`` [seeds, E] bool, ``return`` [seeds, E], ``length`` [seeds, E], as NumPy arrays.
    """
    import jax
    import numpy as np

    from seca_jax.experience import rollout

    policy = rollout.sampled if sampled else rollout.greedy

    def play(params: Any, key: jax.Array, count: int) -> dict[str, jax.Array]:
        return rollout.evaluate(env, algorithm.act, algorithm.initial_carry, params, key, count, policy)

    num_seeds = jax.tree.leaves(params)[0].shape[0]
    compiled = jax.jit(jax.vmap(play, in_axes=(0, 0, None)), static_argnums=2)
    parts = []
    for i, start in enumerate(range(0, episodes, CHUNK)):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(seed), i), num_seeds)
        parts.append(jax.device_get(compiled(params, keys, min(CHUNK, episodes - start))))
    return {name: np.concatenate([part[name] for part in parts], axis=1) for name in parts[0]}


def summary(
    config: Any, step: int, episode_seed: int, results: dict[str, Any], *, played_on: str, sampled: bool
) -> dict[str, Any]:
    """The JSON document of an evaluation.

    Args:
        config: the run's.
        step: of the checkpoint that played, environment steps of a seed.
        episode_seed: of the episodes.
        results: of :func:`win_rates`.
        played_on: the map.
        sampled: whether actions were drawn.
    """
    import numpy as np

    from seca_jax.show import verdict

    episodes = results["won"].shape[1]
    wins = results["won"].sum(axis=1)
    seeds = [
        {
            "seed": config.seed + i,
            "win_rate": float(wins[i] / episodes),
            "ci95": list(verdict.win_rate(int(wins[i]), episodes)),
            "return": float(results["return"][i].mean()),
            "length": float(results["length"][i].mean()),
        }
        for i in range(len(wins))
    ]
    return {
        "map": played_on,
        "trained_on": config.map,
        "algo": config.algo,
        "policy": "sampled" if sampled else "greedy",
        "step": step,
        "episodes": episodes,
        "episode_seed": episode_seed,
        "seeds": seeds,
        "median_win_rate": float(np.median(wins / episodes)),
    }


def table(document: dict[str, Any]) -> Any:
    """The summary as a table for the terminal."""
    from rich import box
    from rich.table import Table

    from seca_jax.show import verdict

    rows = Table(
        box=box.SIMPLE_HEAD,
        title=f"{document['map']}, {document['algo']}: {document['episodes']} {document['policy']} episodes "
        "of each seed",
    )
    for name in ("seed", "win rate", "95 % interval", "return", "steps"):
        rows.add_column(name, justify="right")
    for row in document["seeds"]:
        low, high = row["ci95"]
        cells = (
            f"{row['win_rate']:.3f}",
            f"{low:.3f} to {high:.3f}",
            f"{row['return']:.3f}",
            f"{row['length']:.1f}",
        )
        rows.add_row(str(row["seed"]), *cells)
    rows.add_section()
    over_seeds = ""
    if len(document["seeds"]) > 1:
        rates = [row["win_rate"] for row in document["seeds"]]
        (low, high), _ = verdict.median_win_rate(rates, document["episodes"])
        over_seeds = f"{low:.3f} to {high:.3f}"
    rows.add_row("median", f"{document['median_win_rate']:.3f}", over_seeds, "", "")
    return rows


def pick(chosen: Options, config: Any, document: dict[str, Any]) -> int:
    """Index of the seed whose battle is drawn."""
    if chosen.seed == "best":
        scores = [(row["win_rate"], row["return"]) for row in document["seeds"]]
        return max(range(len(scores)), key=scores.__getitem__)
    return int(chosen.seed) - config.seed


class Loaded(NamedTuple):
    """A trained run and where it is to play."""

    config: Any  # the run's
    env: Any  # Environment to play in
    learner: Any  # Learner made for it
    step: int  # of the checkpoint
    params: Any  # leaves [seeds, ...]


def load(chosen: Options) -> Loaded:
    """The run that is to be evaluated.

    Raises:
        ConfigError: no run there, it is damaged, it has no such seed or checkpoint, or its policies do not
            fit the map.
    """
    from seca_jax.config import compose
    from seca_jax.runtime import devices

    config, _ = compose.load(chosen.run)
    if chosen.order:
        if unread("credit.order", config.algo):
            raise ConfigError(f"order={chosen.order}: {config.algo} assigns credit in no order; leave it out")
        config = replace(config, "credit.order", chosen.order)
        check(config)
        if runs.policy_alone(chosen.run):
            raise ConfigError(
                f"order={chosen.order}: {chosen.run} has no critic to tell credit; leave it out"
            )
    last = config.seed + config.seeds - 1
    if chosen.seed != "best" and not config.seed <= int(chosen.seed) <= last:
        raise ConfigError(f"seed={chosen.seed}: the run has seeds {config.seed} to {last}")
    there = config
    if chosen.map:
        there = compose.on_map(config, chosen.map)
    devices.configure(chosen.device)

    from seca_jax import algos, envs
    from seca_jax.runtime import checkpoint

    try:
        env = envs.make(there)
        learner = algos.make(there, env)
        own = learner if there is config else algos.make(config, envs.make(config))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    _, step, params = checkpoint.load_run(chosen.run, own, step=chosen.step)
    if there is not config or runs.policy_alone(chosen.run):
        learner = fitting(config, there, learner, params)
    return Loaded(config, env, learner, step, params)


def fitting(config: Any, there: Any, learner: Any, params: Any) -> Any:
    """The learner made for the config ``there``, without what the parameters of ``config`` do not fit.

    Raises:
        ConfigError: its policies do not fit: they see or do other things there.
    """
    import jax

    from seca_jax.runtime.policies import acts, leaves

    wanted = leaves(jax.eval_shape(learner.init, jax.random.key(0)).params)
    found = {name: leaf.shape[1:] for name, leaf in leaves(params).items()}
    other = [name for name in wanted if found.get(name) != wanted[name].shape]
    if unfit := next((name for name in other if acts(name)), None):
        raise ConfigError(
            f"map={there.map}: {unfit} would be {list(wanted[unfit].shape)} there, "
            f"and is {list(found[unfit])} on {config.map}"
        )
    return learner._replace(assess=None) if other else learner  # a critic may be made for another state


def show(
    config: Any,
    episode: Any,
    assessment: Any,
    battle: dict[str, Any],
    outputs: dict[str, Path | None],
    size: int,
    say: Callable[[str], None],
) -> None:
    """Print and draw one episode: its end, its credit order, its pictures.

    Args:
        config: the run's.
        episode: of :func:`seca_jax.show.film.play`.
        assessment: of :func:`seca_jax.show.film.assess`.
        battle: what :func:`seca_jax.show.film.told` tells of it, and its ``seed``.
        outputs: paths of ``gif`` and ``plot``, None for what is not wanted.
        size: width of the GIF.
        say: prints a line.
    """
    from seca_jax.show import credit_figure, film

    seed, steps, ending = battle["seed"], battle["steps"], battle["ending"]
    say(f"one episode of seed {seed}: {ending} after {steps} steps, return {battle['return']:.3f}")
    if assessment is None:
        why = f"{config.algo} assigns credit in no order"
        if not unread("credit.order", config.algo):
            why = "there is no critic that fits"
        say(f"{why}: no credit to print or plot")
    else:
        name = battle["credit_order"]
        say(f"credit order ({name}, first assessed first):")
        for part in battle["order"]:
            say("  " + film.describe(part))
        if outputs["plot"]:
            credit_figure.credit(
                outputs["plot"],
                contribution=assessment.contribution,
                order=assessment.order,
                alive=episode.alive,
                names=episode.names,
                title=f"{config.map}, {config.algo} seed {seed}, order {name} ({ending})",
                stills=film.stills(episode, assessment.order, size=credit_figure.STILL_PIXELS),
            )
            say(f"credit over time: {outputs['plot']}")
    if outputs["gif"] and episode.frames is None:
        say(f"{config.map} has no pictures: only SMAX battles are drawn, no GIF written")
    elif outputs["gif"]:
        title = f"{config.map}   {config.algo}   seed {seed}"
        film.draw(outputs["gif"], episode, title=title, size=size, assessment=assessment)
        say(f"battle: {outputs['gif']}")


def run(chosen: Options, say: Callable[[Any], None] = lambda _: None) -> dict[str, Any]:
    """Evaluates and writes the files; returns the JSON document.

    Args:
        chosen: the options.
        say: prints a line or a table.

    Raises:
        ConfigError: bad input.
    """
    config, env, learner, step, params = load(chosen)
    tag = special(chosen, config.map)
    outputs = {
        name: runs.output(getattr(chosen, name), chosen.run, Path(file).stem + tag + Path(file).suffix)
        for name, file in FILES.items()
    }

    import jax

    from seca_jax.show import film

    map_name = Path(chosen.map or config.map).stem
    whose = f"of each of {config.seeds} seeds" if config.seeds > 1 else f"of seed {config.seed}"
    about = f"{config.algo} on {config.map} after {step:,} steps {whose}"
    say(f"{chosen.run}: {about}{chosen.map and f', playing {chosen.map}'}")
    results = win_rates(env, learner, params, chosen.episode_seed, chosen.episodes, chosen.sampled)
    document = summary(config, step, chosen.episode_seed, results, played_on=map_name, sampled=chosen.sampled)
    say(table(document))
    if not any(outputs.values()):
        return document

    index = pick(chosen, config, document)
    own = jax.tree.map(lambda x: x[index], params)
    episode = film.play(env, learner, own, jax.random.key(chosen.episode_seed))
    assessment = film.assess(learner, own, episode.rollout)
    battle = {"seed": config.seed + index, **film.told(episode, assessment, config.credit.order)}
    document["battle"] = battle
    if outputs["json"]:
        runs.write_atomically(outputs["json"], json.dumps(document, indent=1) + "\n")
        say(f"numbers: {outputs['json']}")
    show(replace(config, "map", map_name), episode, assessment, battle, outputs, chosen.size, say)
    return document


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage("python -m seca_jax.evaluate run=<dir> [key=value ...]", Options)


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""

    def command(given: list[str]) -> None:
        chosen = options(given)

        from rich.console import Console

        run(chosen, Console(highlight=False, soft_wrap=True, markup=False).print)

    return commands.call(command, words, usage)


if __name__ == "__main__":
    sys.exit(main())
door.callable_as(__name__)
