"""Weights & Biases: one run per seed, or the one of a sweep. Whatever breaks in it, training goes on."""

import contextlib
import itertools
import logging
import os
import shutil
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from seca_jax.config.schema import Config
from seca_jax.door import EXIT_INTERRUPTED
from seca_jax.runtime.log import Terminal

PATIENCE_S = 30.0  # how long a dead network may delay the beginning of a run, and its end
HURRY_S = 10.0  # and the end of one that somebody has stopped, a scheduler perhaps, which will not wait
MODES = {
    "offline": "offline",
    "online": "online",
    "disabled": "disabled",
    "dryrun": "offline",
    "run": "online",
}
SUPERSEDED = "superseded"  # where offline records of a run go whose lines a later record has, too
ALL = -1  # in the place of a seed: the W&B run that all seeds share in a sweep
_swept: set[str] = set()  # W&B runs of sweeps that this process has written
_open: set[int] = set()  # which Wandb objects of this process have runs that are not finished


def has_key() -> bool:
    """Whether W&B finds an API key, in the environment or where ``wandb login`` left it."""
    import wandb

    try:
        return bool(wandb.login(prompt=False, verify=False))
    except TypeError:  # before 0.31
        return bool(wandb.api.api_key)


def silence() -> None:
    """Keeps wandb from printing: what a user should know is told by us, in one line."""
    import wandb

    wandb.setup(wandb.Settings(silent=True))
    # It reports on itself to its server, and of a server that is down it says so at the process's end
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def forget_service() -> None:
    """Ends wandb's own process, unless a run still needs it; it may have crashed, and would say so later."""
    import wandb

    if not _open:
        # On a dead connection it raises whatever it likes, and it may exit with its process's status
        with contextlib.suppress(Exception, SystemExit):
            wandb.teardown()


class Place(NamedTuple):
    """Where in W&B a run goes: what its keys say, else W&B's environment variables, else our defaults."""

    mode: str  # offline, online or disabled
    project: str
    entity: str | None  # None: W&B decides
    group: str | None
    name: str  # which the seed completes
    directory: Path  # W&B makes wandb/ in it
    tags: tuple[str, ...]
    job_type: str
    sweep: str  # id of the W&B run that a sweep's agent has made for this process; empty: no sweep


def place(config: Config, run_dir: str | os.PathLike, environ: Mapping[str, str] = os.environ) -> Place:
    """The place of a run.

    A sweep's agent says by WANDB_SWEEP_ID and WANDB_RUN_ID which W&B run it waits for: seeds cannot have runs
    of their own then.

    Args:
        config: its ``wandb`` and name matter.
        run_dir: the run's directory.
        environ: of the process.
    """
    own = config.wandb

    def found(key: str, variable: str) -> str:
        return key or environ.get(variable, "").strip()

    sweep = environ.get("WANDB_RUN_ID", "") if environ.get("WANDB_SWEEP_ID") else ""
    mode = own.mode
    if mode == "auto":
        said = environ.get("WANDB_MODE", "").strip().lower()
        mode = MODES.get(said, "online" if sweep and not said else "offline")
    group = found(own.group, "WANDB_RUN_GROUP") or ("" if sweep else config.name)
    preset = (config.preset,) if config.preset != Config.preset else ()
    more = (tag.strip() for tag in found(own.tags, "WANDB_TAGS").split(","))
    return Place(
        mode=mode,
        project=found(own.project, "WANDB_PROJECT") or "seca_jax",
        entity=found(own.entity, "WANDB_ENTITY") or None,
        group=group or None,
        name=found(own.name, "WANDB_NAME") or f"{config.map}-{config.algo}-{config.name}",
        directory=Path(found(own.directory, "WANDB_DIR") or run_dir),
        tags=tuple(dict.fromkeys(filter(None, (config.map, config.algo, *preset, *more)))),
        job_type=environ.get("WANDB_JOB_TYPE", "").strip() or "train",
        sweep=sweep,
    )


class Wandb:
    """One W&B run per seed, in one group; in a sweep the one of the sweep, with the medians over seeds.

    Any failure is reported once and training goes on.
    """

    def __init__(
        self, there: Place, *, run_id: str, seeds: Sequence[int], config: dict[str, Any], terminal: Terminal
    ) -> None:
        """Starts the runs, unless the mode is disabled; a failure is told to ``terminal``.

        Args:
            there: of :func:`place`.
            run_id: beginning of every W&B run's id, which the seed completes.
            seeds: numbers of the seeds.
            config: by key, what W&B shows as the run's configuration.
            terminal: is warned of what breaks.
        """
        self._terminal, self._place = terminal, there
        self._seeds = list(seeds)
        self._runs: dict[int, Any] = {}  # by seed, or of all of them
        if there.mode == "disabled":
            return
        try:
            self._start(run_id, config)
        except Exception as error:  # wandb's own errors, but also whatever breaks inside it
            self._give_up(error)

    def _start(self, run_id: str, config: dict[str, Any]) -> None:
        import wandb  # a second of import that a disabled logger does not pay

        silence()
        there, mode = self._place, self._place.mode
        # wandb logs into the run's directory too: a full disk is no reason to print stack traces
        logging.raiseExceptions = False
        settings = wandb.Settings(
            silent=True,
            console="off",
            init_timeout=PATIENCE_S,
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,
        )
        if there.sweep and there.sweep in _swept:
            raise RuntimeError("a sweep's run takes one training, leave out --multirun")
        if mode == "online" and not has_key():  # else wandb would stop and ask for one
            self._terminal.warn("W&B online: no API key (run wandb login); logging offline instead")
            mode = "offline"
        for seed in [ALL] if there.sweep else self._seeds:
            options: dict[str, Any] = {
                "project": there.project,
                "entity": there.entity,
                "group": there.group,
                "name": f"{there.name}-seed{seed}",
                "id": f"{run_id}-{seed}",
                "tags": there.tags,
                "job_type": there.job_type,
                "dir": str(there.directory),
                "config": {**config, "seed": seed},
                "resume": "allow",
                "reinit": "create_new",
                "settings": settings,
            }
            if there.sweep:
                # The agent's id and project hold; W&B warns of others and does not take them
                _swept.add(there.sweep)
                options |= {"name": there.name, "id": None, "project": None, "entity": None, "config": config}
            try:
                self._runs[seed] = wandb.init(mode=cast(Any, mode), **options)
            except Exception as error:
                if mode == "offline":
                    raise
                self._terminal.warn(f"W&B cannot be reached ({_first_line(error)}); logging offline instead")
                mode = "offline"
                forget_service()  # which keeps the id of the run that failed
                silence()
                self._runs[seed] = wandb.init(mode=cast(Any, mode), **options)
            _open.add(id(self))

    def resume(self, lines: Sequence[dict[str, Any]]) -> None:
        """Sends the earlier ``lines`` of a resumed run that W&B does not have yet.

        An offline record thus holds the whole run, however often that was resumed. Earlier ones of the same
        W&B run are set aside: synced after it they would overwrite it.
        """
        for _, point in itertools.groupby(lines, key=lambda line: line["wall_s"]):
            self.log(list(point))
        for run in self._runs.values():
            here = Path(run.dir).parent
            for earlier in here.parent.glob(f"offline-run-*-{run.id}"):
                if earlier != here:
                    with contextlib.suppress(OSError):
                        aside = here.parent / SUPERSEDED
                        aside.mkdir(exist_ok=True)
                        shutil.move(earlier, aside / earlier.name)

    def log(self, lines: Sequence[dict[str, Any]]) -> None:
        """Sends each line to the run of its seed, or of all lines what :func:`pooled` makes of them."""
        try:
            if ALL in self._runs and lines:
                lines = [pooled(lines, self._seeds)]
            for line in lines:
                run = self._runs.get(line.get("seed", ALL))
                if run is not None and line["step"] >= run.step:  # a resumed run may be ahead of us
                    run.log(line, step=line["step"])
        except Exception as error:
            self._give_up(error)

    def close(self, exit_code: int) -> None:
        """Finishes the runs, waiting a bounded time for the network."""
        failed: list[Exception] = []

        def finish(run: Any) -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=finish, args=(run,), daemon=True) for run in self._runs.values()]
        for thread in threads:
            thread.start()
        end = time.monotonic() + (HURRY_S if exit_code == EXIT_INTERRUPTED else PATIENCE_S)
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        if any(thread.is_alive() for thread in threads):
            self._terminal.warn(
                f"W&B is still uploading; `wandb sync` in {self._place.directory} completes it"
            )
        elif failed:
            self._give_up(failed[0])
        self._drop()

    def _give_up(self, error: Exception) -> None:
        self._terminal.warn(f"W&B stopped ({_first_line(error)}); training goes on without it")
        self._drop()
        forget_service()

    def _drop(self) -> None:
        _open.discard(id(self))
        self._runs = {}


def pooled(lines: Sequence[dict[str, Any]], seeds: Sequence[int]) -> dict[str, Any]:
    """One log point of all seeds: medians under the numbers' names, each seed's under ``seed<number>/``.

    The step is that of the slowest seed. A single seed's numbers are the medians.
    """
    names = dict.fromkeys(name for line in lines for name in line if name != "seed")
    found: dict[str, Any] = {
        name: statistics.median(line[name] for line in lines if name in line) for name in names
    }
    found["step"] = min(line["step"] for line in lines)
    if len(seeds) > 1:
        for line in lines:
            numbers = {name: value for name, value in line.items() if name not in ("seed", "wall_s")}
            found |= {f"seed{line['seed']}/{name}": value for name, value in numbers.items()}
    return found


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:150]}"
