"""Is a run's credit true? ``python -m seca_jax.audit run=<dir>``.

The simulator is asked what every agent's action was really worth, and the critic's claims are held
against its answer.
"""

if __name__ == "__main__":
    from seca_jax import door

    door.quietly()

import json
import shutil
import sys
import zlib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Callable

from seca_jax import runs
from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.words import options as checked_options
from seca_jax.credit import names

FILES = {"json": runs.AUDIT, "plot": runs.AUDIT_FIGURE}  # in the run's directory
PARTS = ".parts"  # ending of the directory beside the numbers that keeps what has been played until all is
EPISODES = 256  # lived through at most, to draw the moments from
MEMORY = 2**29  # bytes that those episodes may take


@dataclass(frozen=True)
class Options:
    """Keys of the command line, beside a bare directory."""

    run: str = key("", "directory of the run (required); the directory alone will do", path=True)
    states: int = key(
        256, "moments at which credit is examined, drawn from what the policies live through", low=2
    )
    branches: int = key(512, "continuations of each moment; four times as many halve the noise", low=2)
    orders: str = key(
        "",
        f"credit orders to examine, with commas: {names.ALLOWED}; "
        "empty: the run's own and ig-episode,prob,fixed,random, or those of them that the critic can tell",
    )
    seed: str = key("", "seed of the run to examine, a number; empty: the first")
    episode_seed: int = key(12345, "seed of the episodes; another number, other moments", low=0)
    json: str = key("", "file for the numbers; unless given, <run>/audit.json", path=True)
    plot: str = key("", "file for the picture, or none; unless given, <run>/audit.png", path=True)
    device: str = key("auto", "auto, cpu, gpu or tpu", choices=("auto", "cpu", "gpu", "tpu"))


def options(words: list[str]) -> Options:
    """Checked options from ``key=value`` words.

    Raises:
        ConfigError: one line, saying what is wrong and what would be right.
    """
    chosen: Options = checked_options(runs.one(words), Options)
    if not chosen.run:
        raise ConfigError("run=<directory> is required: which run to examine; --help lists all keys")
    if chosen.plot not in ("", "none") and Path(chosen.plot).suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigError(f"plot={chosen.plot}: give a file that ends in .png, .svg or .pdf, or none")
    for name in filter(None, chosen.orders.split(",")):
        by_contribution(name)
    return chosen


def by_contribution(name: str) -> bool:
    """Whether the order goes by contributions; raises ConfigError where there is no such order."""
    try:
        return names.parse(name).kind == "ig"
    except ValueError as error:
        raise ConfigError(f"orders={name}: {error}") from None


def orders(chosen: Options, algo: str, along_path: bool, own: str = "ig-episode") -> list[str]:
    """The orders to examine, unless given the run's ``own`` first.

    Raises:
        ConfigError: the learner cannot tell one that was asked for.
    """
    given = [name.strip() for name in chosen.orders.split(",") if name.strip()]
    wanted = list(dict.fromkeys(given or [own, "ig-episode", "prob", "fixed", "random"]))
    untold = [name for name in wanted if by_contribution(name) and not along_path]
    if given and untold:
        raise ConfigError(
            f"orders={untold[0]}: contributions need one critic of the team, and {algo}'s is not; "
            f"there are {', '.join(names.PLAIN)}"
        )
    return [name for name in wanted if name not in untold]


def seed_of(config: Any, given: str) -> int:
    """The seed of a run that ``given`` names, its first where that is empty; raises ConfigError."""
    if given and not given.isdigit():
        raise ConfigError(f"seed={given}: must be a seed of the run, or left out for its first")
    seed, last = int(given or config.seed), config.seed + config.seeds - 1
    if not config.seed <= seed <= last:
        raise ConfigError(f"seed={given}: the run has seeds {config.seed} to {last}")
    return seed


def load(chosen: Options) -> tuple[Any, Any, Any, int, int, Any]:
    """(config, Environment, Learner, seed, step of the checkpoint, the seed's params) of the run.

    Raises:
        ConfigError: no run there, it is damaged, or it has no such seed.
    """
    from seca_jax.config import compose
    from seca_jax.runtime import devices

    config, _ = compose.load(chosen.run)
    if runs.policy_alone(chosen.run):
        raise ConfigError(f"run={chosen.run}: its policy alone is there; an audit needs the critic, too")
    seed = seed_of(config, chosen.seed)
    devices.configure(chosen.device)

    import jax

    from seca_jax import algos, envs
    from seca_jax.runtime import checkpoint

    env = envs.make(config)
    learner = algos.make(config, env)
    _, step, params = checkpoint.load_run(chosen.run, learner)
    return config, env, learner, seed, step, jax.tree.map(lambda x: x[seed - config.seed], params)


class Parts:
    """Outcomes on disk, part by part, so that an interrupted audit goes on where it was."""

    def __init__(self, directory: Path, about: dict[str, Any]) -> None:
        """``about``: what the outcomes depend on; those that depended on anything else are deleted."""
        self.directory, label = directory, directory / "about.json"
        text = json.dumps(about, sort_keys=True)
        if directory.is_dir() and not (label.exists() and label.read_text() == text):
            shutil.rmtree(directory)
        directory.mkdir(exist_ok=True)
        label.write_text(text)

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:05d}.npz"

    def read(self) -> list[dict[str, Any]]:
        """The parts that are there, from the first on without a gap."""
        import numpy as np

        found: list[dict[str, Any]] = []
        while self._path(len(found)).exists():
            with np.load(self._path(len(found))) as arrays:
                found.append(dict(arrays))
        return found

    def write(self, number: int, arrays: dict[str, Any]) -> None:
        """Keeps a part, whole or not at all."""
        import numpy as np

        draft = self._path(number).with_suffix(".tmp")
        with draft.open("wb") as file:
            np.savez(file, **arrays)
        draft.replace(self._path(number))

    def clear(self) -> None:
        """Deletes all parts."""
        shutil.rmtree(self.directory, ignore_errors=True)


def play(
    moments: Any,
    masks: Any,
    setting: tuple[Any, Any, Any, Any],
    chosen: Options,
    directory: Path,
    about: dict[str, Any],
    report: Callable[[int, int], None],
) -> tuple[Any, Parts]:
    """Every coalition's returns, from the parts that are on disk and those still to play.

    Args:
        moments: Moments.
        masks: [M, C] coalitions.
        setting: (Environment, Learner, params, gamma).
        chosen: the options.
        directory: for the parts.
        about: what else the outcomes depend on.
        report: told (battles played, battles to play).

    Returns:
        Branches, and the Parts to clear once nothing more can fail.
    """
    import jax
    import numpy as np

    from seca_jax.experience import branching

    env, learner, params, gamma = setting
    draw_key, play_key = jax.random.split(jax.random.fold_in(jax.random.key(chosen.episode_seed), 2))
    drawn = np.asarray(branching.drawer(env, learner.act)(params, moments, draw_key, chosen.branches))
    todo = branching.plan(np.asarray(moments.action), drawn, masks)
    slots, size = branching.shape_of(len(todo.moment))
    mark = zlib.crc32(np.ascontiguousarray(np.stack([todo.branch, todo.taken])).tobytes())
    parts = Parts(directory, {**about, "battles": [len(todo.moment), slots, size, mark]})
    done = [branching.Outcomes(**arrays) for arrays in parts.read()]
    report(min(len(done) * size, len(todo.moment)), len(todo.moment))
    fresh = branching.play_parts(
        env, learner.act, params, moments, drawn, todo, play_key, gamma=gamma, start=len(done)
    )
    for outcomes in fresh:
        parts.write(len(done), {field.name: getattr(outcomes, field.name) for field in fields(outcomes)})
        done.append(outcomes)
        report(min(len(done) * size, len(todo.moment)), len(todo.moment))
    return branching.joined(todo, done), parts


def episodes(env: Any, learner: Any, params: Any, states: int) -> int:
    """How many episodes to live through: one for each moment, as far as memory goes."""
    import jax

    from seca_jax.experience import moments

    def size(number: int) -> int:
        shapes = jax.eval_shape(
            lambda key: moments.live(env, learner.act, params, learner.initial_carry(number), key, number),
            jax.random.key(0),
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))

    return int(max(8, min(EPISODES, states, MEMORY // size(1))))


def lived(env: Any, learner: Any, params: Any, chosen: Options, key: Any) -> tuple[Any, Any, Any]:
    """Whole episodes of the policies, and moments of them: (rollout, steps [M], episodes [M])."""
    import jax
    import numpy as np

    from seca_jax.experience import moments

    number = episodes(env, learner, params, chosen.states)

    def live(params: Any, key: jax.Array) -> Any:
        return moments.live(env, learner.act, params, learner.initial_carry(number), key, number)

    rollout = jax.jit(live)(params, key)
    return rollout, *moments.choose(rollout, chosen.states, np.random.default_rng(chosen.episode_seed))


def measure(
    chosen: Options, loaded: tuple, directory: Path, report: Callable[[int, int], None]
) -> tuple[dict[str, Any], Parts]:
    """The audit's JSON document, and the parts on disk that it was made of.

    Args:
        chosen: the options.
        loaded: of :func:`load`.
        directory: for what has been played.
        report: told (battles played, battles to play).
    """
    import jax
    import numpy as np

    from seca_jax.algos import claims
    from seca_jax.credit import findings, truth
    from seca_jax.experience import moments

    config, env, learner, seed, step, params = loaded
    opinion = claims.opinion(config, env)
    wanted = orders(chosen, config.algo, opinion.along_path, config.credit.order)
    live_key, order_key = jax.random.split(jax.random.fold_in(jax.random.key(chosen.episode_seed), 1))
    rollout, t, b = lived(env, learner, params, chosen, live_key)
    number = rollout.action.shape[1]
    turns = jax.jit(lambda p, r, k: claims.orders(config, opinion, p, r, wanted, k))(
        params, rollout, order_key
    )
    said = claims.claims(opinion, params, rollout, turns, t, b)
    chosen_turns = {name: np.asarray(turns[name][t, b]) for name in wanted}

    about = {
        "step": step,
        "seed": seed,
        "states": chosen.states,
        "branches": chosen.branches,
        "orders": wanted,
        "episode_seed": chosen.episode_seed,
    }
    there = moments.at(env, rollout, t, b)
    masks = truth.coalitions(chosen_turns)
    played, parts = play(there, masks, (env, learner, params, config.gamma), chosen, directory, about, report)
    true = truth.terms(played.returned, chosen_turns)
    products = claims.score_products(opinion, env, params, rollout, t, b)
    steps = np.asarray(rollout.mask).sum() / number
    batch = config.num_envs * (config.window if config.rollout == "stream" else int(steps))
    document = {
        "map": config.map,
        "algo": config.algo,
        "seed": seed,
        "step": step,
        "states": len(t),
        "branches": chosen.branches,
        "episodes": number,
        "battles": played.battles,
        "steps": played.steps,
        "truncated": played.truncated,
        "gamma": config.gamma,
        "batch": batch,
    }
    choice = np.asarray(rollout.view.avail[t, b].sum(-1) > 1)
    seen = findings.Seen(choice, chosen_turns, t, b, unit_names(env, there), products, batch)
    document |= findings.findings(said.terms, said.residual, true, seen)
    return document, parts


def unit_names(env: Any, there: Any) -> Any:
    """[M, N] names of the agents' unit types; of the agents themselves where there are no types."""
    import numpy as np

    shape = there.action.shape
    if env.frame is None:
        return np.broadcast_to([f"agent {a}" for a in range(shape[1])], shape)
    from seca_jax.envs.smax.units import TABLE

    return np.asarray(TABLE.names)[np.asarray(env.frame(there.env).unit_type)[:, : shape[1]]]


def run(chosen: Options) -> None:
    """Measure, write the files and print; raises ConfigError on bad input."""
    loaded = load(chosen)
    outputs = {name: runs.output(getattr(chosen, name), chosen.run, file) for name, file in FILES.items()}
    config, _, _, seed, step, _ = loaded
    directory = (outputs["json"] or Path(chosen.run) / runs.AUDIT).with_suffix(PARTS)

    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from seca_jax.show import audit_table

    console = Console(highlight=False, soft_wrap=True, markup=False)
    console.width = max(console.width, audit_table.WIDTH)
    console.print(f"{chosen.run}: credit of {config.algo} on {config.map}, seed {seed} after {step:,} steps")
    columns = (TextColumn("battles"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("battles", total=None)
            document, parts = measure(
                chosen, loaded, directory, lambda done, total: bar.update(task, completed=done, total=total)
            )
    except KeyboardInterrupt:
        print("interrupted; the same command goes on where it was", file=sys.stderr)
        raise
    console.print(
        f"{document['states']} moments of {document['episodes']} episodes, {document['branches']} branches "
        f"each: {document['battles']:,} battles, {document['steps']:,} steps. The time limit ended "
        f"{document['truncated']:.1%} of them; nothing after it counts."
    )
    for table in audit_table.tables(document):
        console.print(table)
    console.print(audit_table.LEGEND)
    if outputs["json"]:
        runs.write_atomically(outputs["json"], json.dumps(document, indent=1, allow_nan=False) + "\n")
        console.print(f"numbers: {outputs['json']}")
    if outputs["plot"]:
        from seca_jax.show import audit_figure

        audit_figure.draw(outputs["plot"], document)
        console.print(f"accuracy by place: {outputs['plot']}")
    parts.clear()


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage(
        "python -m seca_jax.audit run=<dir> [key=value ...]",
        Options,
        "An interrupted audit goes on where it was when the same command is given again.",
    )


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input, 130 interrupted."""
    return commands.call(lambda given: run(options(given)), words, usage)


if __name__ == "__main__":
    sys.exit(main())
