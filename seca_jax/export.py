"""Give a policy away: ``python -m seca_jax.export run=<dir>``.

One seed's acting parameters as safetensors with a description in JSON, and as a function that plays without
this package: jax alone loads it.
"""

from seca_jax import door

if __name__ == "__main__":
    door.quietly()

import sys
from dataclasses import dataclass
from pathlib import Path

from seca_jax import runs
from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key, replace
from seca_jax.config.schema import Config
from seca_jax.config.words import options as checked_options

HOME = "export"  # in the run's directory


@dataclass(frozen=True)
class Options:
    """Keys of the command line, beside a bare directory."""

    run: str = key("", "directory of the run (required); the directory alone will do", path=True)
    step: str = key("", "checkpoint to take: a step, or best (checkpoint.best=true); empty: the newest")
    seed: str = key("best", "seed of the run: a number, or best, that with the highest last test win rate")
    out: str = key("", "directory for the files; unless given, <run>/export", path=True)


def options(words: list[str]) -> Options:
    """Checked options from ``key=value`` words.

    Raises:
        ConfigError: one line, saying what is wrong and what would be right.
    """
    chosen: Options = checked_options(runs.one(words), Options)
    if not chosen.run:
        raise ConfigError("run=<directory> is required: whose policy to export; --help lists all keys")
    if chosen.step not in ("", "best") and not chosen.step.isdigit():
        raise ConfigError(f"step={chosen.step}: must be a step of a checkpoint, or best")
    if chosen.seed != "best" and not chosen.seed.isdigit():
        raise ConfigError(f"seed={chosen.seed}: must be a seed of the run, or best")
    if chosen.run.startswith(runs.SHIPPED) and not chosen.out:
        raise ConfigError(f"out=<directory> is required: nothing is written beside {chosen.run}")
    return chosen


def seed_of(chosen: Options, config: Config, step: int) -> int:
    """The number of the seed whose policy is taken; raises ConfigError where the run has no such seed."""
    last = config.seed + config.seeds - 1
    if chosen.seed != "best":
        if not config.seed <= int(chosen.seed) <= last:
            raise ConfigError(f"seed={chosen.seed}: the run has seeds {config.seed} to {last}")
        return int(chosen.seed)
    scores = {
        line["seed"]: (line["test/win_rate"], line["test/return"])
        for line in runs.read_metrics(runs.place(chosen.run))
        if "test/win_rate" in line and line["step"] <= step
    }
    return max(scores, key=lambda seed: scores[seed], default=config.seed)


def directory(chosen: Options) -> Path:
    """The directory that the files go into, made; raises ConfigError where it cannot be."""
    path = Path(chosen.out) if chosen.out else Path(chosen.run) / HOME
    if not chosen.out:
        runs.check_links(chosen.run)
    if (path / runs.CHECKPOINTS).exists() or (path / runs.METRICS).exists():
        raise ConfigError(f"out={path}: is the directory of a run; give another one")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out={path}: cannot be created ({error.strerror})") from None
    return path


def run(chosen: Options) -> Path:
    """Writes the files; returns their directory.

    Raises:
        ConfigError: no run there, no such checkpoint or seed, or the directory cannot be written.
    """
    from seca_jax.config import compose
    from seca_jax.runtime import devices

    config, origin = compose.load(chosen.run)
    devices.configure("auto")

    import jax

    from seca_jax import algos, envs
    from seca_jax.runtime import artefact, checkpoint, policies

    env = envs.make(config)
    learner = algos.make(config, env)
    _, step, params = checkpoint.load_run(chosen.run, learner, step=chosen.step)
    seed = seed_of(chosen, config, step)
    params = jax.tree.map(lambda x: x[seed - config.seed], params)
    play = artefact.play_of(config, env, learner, params)
    about = artefact.description(config, env, params, step, seed)
    function = artefact.lowered(play, env, config.actor.hidden)
    place = directory(chosen)
    # A run of one seed, which evaluate= and init= read; where it was trained is no path of whoever gets it
    alone = {"seeds": 1, "seed": seed, "out": "", "resume": "", "init.run": ""}
    for name, value in alone.items():
        config = replace(config, name, value)
    try:
        compose.save(place, config, origin)
        policies.write(place, params, {**about, "versions": origin.get("versions", {})})
        runs.write_atomically(place / runs.ARTEFACT, function)
    except OSError as error:
        raise ConfigError(f"out={place}: cannot be written ({error.strerror})") from None
    return place


def usage() -> str:
    """Text of ``--help``."""
    return commands.usage("python -m seca_jax.export run=<dir> [key=value ...]", Options)


def command(words: list[str]) -> None:
    """Exports, and says what lies where; raises ConfigError, OSError."""
    place = run(options(words))
    told = {
        runs.POLICY: "parameters",
        runs.DESCRIPTION: "what they are",
        runs.ARTEFACT: "a function that plays with jax alone",
        runs.CONFIG: "the configuration that they were trained under",
    }
    for name, what in told.items():
        print(f"{place / name}: {what} ({(place / name).stat().st_size / 1024:,.0f} KiB)")


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    return commands.call(command, words, usage)


if __name__ == "__main__":
    sys.exit(main())
door.callable_as(__name__)
