"""Train: ``python -m seca_jax.train map=3s5z_vs_3s6z``. ``--help`` lists every key."""

import os
import platform
import shlex
import subprocess
import sys
import uuid
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from seca_jax import __version__, algos, envs
from seca_jax.config import commands, compose
from seca_jax.config.check import ConfigError, check, unread
from seca_jax.config.schema import Config, get, keys, replace

USAGE = """\
Train a cooperative multi-agent learner.

  python -m seca_jax.train map=2s3z seeds=5 actor.lr=1e-3
  python -m seca_jax.train map=2s3z preset=paper
  python -m seca_jax.train --multirun map=2s3z,3s5z credit.order=ig-episode,fixed
  python -m seca_jax.train resume=runs/2s3z/seca/2026-01-31_12-00-00

A run leaves config.yaml, metrics.jsonl, curves.png, checkpoints/ and its W&B files in its directory.
--multirun trains every combination of comma-separated values, one after the other; out=DIR then
holds one numbered directory for each. A resumed run keeps its stored config; it may be made longer
(total_steps) and change {free}.

Exit status: 0 done, 2 bad input, 3 stopped on a non-finite value, 4 the last checkpoint could not be
written, 130 interrupted after saving (a second Ctrl-C aborts at once).
"""
KEYS = "Keys, given as key=value (--help algo=qmix preset=paper shows their defaults):"
LARGE_STATE = 2**26  # bytes; more, a replay buffer mostly, is worth a word
PACKAGES = ("jax", "jaxlib", "flax", "optax", "jaxmarl", "orbax-checkpoint", "numpy")


def help_text(words: list[str]) -> str:
    """What ``--help`` prints: usage, then every key with its meaning, allowed values and default.

    ``words`` may name an algo and a preset, whose defaults are shown then; raises ConfigError.
    """
    config = compose.compose(compose.parse([w for w in words if w.startswith(("algo=", "preset="))]))
    free = ", ".join(name for name in compose.FREE_ON_RESUME if not name.startswith("wandb."))
    lines = [USAGE.format(free=f"{free}, wandb.*"), KEYS]
    for name, field in keys():
        value = get(config, name)
        default = str(value).lower() if field.type is bool else value
        choices = field.metadata["choices"]
        # Where the meaning already names the choices, naming them again only lengthens the line
        missing = [choice for choice in choices if choice not in field.metadata["doc"]]
        values = f" ({', '.join(choices)})" if missing else ""
        shown = f"{name}={default}"
        lines.append(f"  {shown:<34} {field.type.__name__:<6} {field.metadata['doc']}{values}")
    lines += [
        "",
        f"map:    {', '.join(envs.names())}",
        f"algo:   {', '.join(algos.names())}",
        f"preset: {', '.join(compose.presets())}",
    ]
    return "\n".join(lines)


def with_directory(config: Config, job: int | None, now: str) -> Config:
    """The config with its name and run directory filled in; ``job`` numbers the runs of a sweep."""
    suffix = "" if job is None else f"-{job}"
    config = replace(config, "name", (config.name or now) + suffix)
    if not config.out:
        return replace(config, "out", str(Path("runs") / config.map / config.algo / config.name))
    return config if job is None else replace(config, "out", str(Path(config.out) / str(job)))


def check_directory(run_dir: Path) -> None:
    """Raises ConfigError if a new run cannot start in ``run_dir``. Writes nothing."""
    if (run_dir / "config.yaml").exists():
        raise ConfigError(f"out={run_dir}: holds a run already; resume={run_dir} continues it")
    if run_dir.is_dir() and any(run_dir.iterdir()):
        raise ConfigError(f"out={run_dir}: is not empty; give a new directory")
    existing = run_dir.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"out={run_dir}: cannot write in {existing}; give a directory you may write to")


def provenance(devices: list[Any], argv: list[str]) -> dict[str, Any]:
    """Where a run's numbers come from: versions, device, commit, command."""
    import jax

    root = Path(__file__).parent

    def git(*words: str) -> str | None:
        """What git says, or None: no repository here, or no git."""
        try:
            said = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
        except (OSError, subprocess.CalledProcessError):
            return None
        return said.stdout.strip()

    commit = git("rev-parse", "HEAD")
    # Of this package alone: results stored beside it change no run
    if commit and git("status", "--porcelain", "-uno", "."):
        commit += " (modified)"
    installed = {}
    for package in PACKAGES:
        try:
            installed[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            installed[package] = None
    return {
        "versions": {"python": platform.python_version(), "seca_jax": __version__, **installed},
        "device": f"{len(devices)} x {devices[0].device_kind}",
        "platform": jax.default_backend(),
        "git_commit": commit,
        "command": shlex.join(["python", "-m", "seca_jax.train", *argv]),
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "wandb_id": uuid.uuid4().hex[:8],
    }


def create(run_dir: Path, config: Config, origin: dict[str, Any]) -> None:
    """A new run's directory and config.yaml; raises ConfigError, leaving nothing behind, where that fails."""
    missing = [path for path in (run_dir, *run_dir.parents) if not path.exists()]
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        compose.save(run_dir, config, origin)
    except OSError as error:
        for path in missing:
            if path.exists():
                path.rmdir()
        raise ConfigError(f"out={run_dir}: cannot be created ({error.strerror})") from None


def prepare(config: Config) -> tuple[list[Any], Any, Any]:
    """The devices, the environment and the learner of a checked config.

    Raises:
        ConfigError: the device is not there, or map, learner and their settings do not go together.
    """
    from seca_jax.runtime.devices import configure

    devices = configure(config.device, config.seeds)
    try:
        env = envs.make(config)
        return devices, env, algos.make(config, env)
    except ValueError as error:
        raise ConfigError(str(error)) from None


def train(config: Config, argv: list[str]) -> int:
    """One run, from a checked config to an exit status.

    Raises:
        ConfigError: it cannot start; nothing has been written.
    """
    # Imported here, not above: --help and bad input must not wait for JAX
    import jax

    from seca_jax.runtime import checkpoint, interrupt, log, loop

    devices, env, algorithm = prepare(config)
    program = loop.Program(config, env, algorithm, devices)

    run_dir = Path(config.out)
    origin = provenance(devices, argv)
    saved, changed = None, []
    if config.resume:
        _, saved = checkpoint.restore(run_dir, program.abstract)
        _, stored = compose.load(run_dir)
        before, now = stored["versions"], origin["versions"]
        changed = [
            f"{name} {before.get(name)} -> {now[name]}" for name in now if before.get(name) != now[name]
        ]
        origin = {**stored, "resumed": [*stored.get("resumed", []), origin]}
        try:
            compose.save(run_dir, config, origin)
        except OSError as error:
            raise ConfigError(f"resume={run_dir}: cannot be written ({error.strerror})") from None
    else:
        create(run_dir, config, origin)

    terminal = log.Terminal(config.total_steps, config.log.progress)
    status = 1
    try:
        # From here on a signal leaves a run that can be continued, however early it comes
        with interrupt.graceful(
            lambda: terminal.warn(
                "stopping after the steps under way, then saving; Ctrl-C now aborts without saving"
            )
        ) as stop:
            if changed:
                terminal.warn(f"other versions than before, numbers may differ: {', '.join(changed)}")
            terminal.say(
                f"{config.algo} on {config.map}, {config.seeds} seeds, {origin['device']}: {run_dir}"
            )
            size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(program.abstract["state"]))
            if size > LARGE_STATE:
                terminal.say(f"the state, and every checkpoint of it, is up to {size / 2**20:,.0f} MiB")
            wandb = log.Wandb(
                run_dir,
                mode=config.wandb.mode,
                project=config.wandb.project,
                entity=config.wandb.entity,
                group=config.wandb.group or config.name,
                run_id=origin["wandb_id"],
                seeds=program.seeds.tolist(),
                config={**asdict(config), "provenance": origin},
                terminal=terminal,
            )
            status = loop.run(config, run_dir, program, saved, terminal=terminal, wandb=wandb, stop=stop)
            terminal.status(config.total_steps if status == 0 else 0, "closing")
            wandb.close(status)
    finally:
        terminal.close()
    if status == interrupt.EXIT_INTERRUPTED:
        terminal.say(f"interrupted; continue with resume={run_dir}")
    elif status == 0:
        terminal.say(f"done: {run_dir / 'curves.png'}")
    return status


def plan(words: list[str]) -> list[Config]:
    """The runs that the command line asks for, each complete and checked; raises ConfigError."""
    multirun = [word for word in words if word in ("--multirun", "-m")]
    overrides = [word for word in words if word not in multirun]
    now = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    configs = []
    for job, job_overrides in enumerate(compose.expand(overrides) if multirun else [overrides]):
        values = compose.parse(job_overrides)
        if values.get("resume"):
            configs.append(compose.resumed(values))
            continue
        config = with_directory(compose.compose(values), job if multirun else None, now)
        check(config)
        check_directory(Path(config.out))
        configs.append(config)
    return configs


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    status = 0
    try:
        if "--help" in argv or "-h" in argv:
            commands.tell(help_text(argv))
            return 0
        configs = plan(argv)
        for name in (word.partition("=")[0] for word in argv if "=" in word):
            if all(unread(name, config.algo) for config in configs):
                learners = ", ".join(sorted({config.algo for config in configs}))
                print(f"warning: {name} changes nothing under algo={learners}", file=sys.stderr)
        if len(configs) > 1:  # a job that cannot run is better known before the first has run for hours
            for config in configs:
                prepare(config)
        for config in configs:
            # One failed run does not cost the rest of a sweep; an interrupt does
            status = max(status, train(config, argv))
            if status == 130:
                break
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # before the run has begun: nothing to save
        return 130
    return status


if __name__ == "__main__":
    sys.exit(main())
