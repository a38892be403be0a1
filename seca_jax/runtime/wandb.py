"""Weights & Biases: one run per seed. Whatever breaks in it, training goes on."""

import logging
import os
import threading
from typing import Any, Sequence, cast

from seca_jax.runtime.log import Terminal

PATIENCE_S = 30.0  # how long a dead network may delay the end of a run, per seed


def has_key() -> bool:
    """Whether W&B finds an API key, in the environment or where ``wandb login`` left it."""
    import wandb

    return bool(wandb.api.api_key)


class Wandb:
    """One W&B run per seed, in one group. Any failure is reported once and training goes on."""

    def __init__(
        self,
        run_dir: str | os.PathLike,
        *,
        mode: Any,
        project: str,
        entity: str,
        group: str,
        run_id: str,
        seeds: Sequence[int],
        config: dict[str, Any],
        terminal: Terminal,
    ) -> None:
        """Starts the runs, unless ``mode`` is disabled; a failure is told to ``terminal``.

        Args:
            run_dir: where W&B keeps its files.
            mode: offline, online or disabled.
            project: W&B project.
            entity: W&B entity; empty: the user's default.
            group: what the seeds' runs are grouped under.
            run_id: beginning of every W&B run's id, which the seed completes.
            seeds: numbers of the seeds.
            config: by key, what W&B shows as the run's configuration.
            terminal: is warned of what breaks.
        """
        self._terminal = terminal
        self._runs: dict[int, Any] = {}
        if mode == "disabled":
            return
        try:
            self._start(run_dir, mode, project, entity, group, run_id, seeds, config)
        except Exception as error:  # wandb's own errors, but also whatever breaks inside it
            self._give_up(error)

    def _start(
        self,
        run_dir: str | os.PathLike,
        mode: Any,
        project: str,
        entity: str,
        group: str,
        run_id: str,
        seeds: Sequence[int],
        config: dict[str, Any],
    ) -> None:
        import wandb  # a second of import that a disabled logger does not pay

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
        if mode == "online" and not has_key():  # else wandb would stop and ask for one
            self._terminal.warn("wandb.mode=online: no API key (run wandb login); logging offline instead")
            mode = "offline"
        for seed in seeds:
            options: dict[str, Any] = {
                "project": project,
                "entity": entity or None,
                "group": group,
                "name": f"{group}-seed{seed}",
                "id": f"{run_id}-{seed}",
                "dir": str(run_dir),
                "config": {**config, "seed": seed},
                "resume": "allow",
                "reinit": "create_new",
                "settings": settings,
            }
            try:
                self._runs[seed] = wandb.init(mode=cast(Any, mode), **options)
            except Exception as error:
                if mode == "offline":
                    raise
                self._terminal.warn(f"W&B cannot be reached ({_first_line(error)}); logging offline instead")
                mode = "offline"
                self._runs[seed] = wandb.init(mode=cast(Any, mode), **options)

    def log(self, lines: Sequence[dict[str, Any]]) -> None:
        """Sends each line to the run of its seed."""
        try:
            for line in lines:
                if line["seed"] in self._runs:
                    self._runs[line["seed"]].log(line, step=line["step"])
        except Exception as error:
            self._give_up(error)

    def close(self, exit_code: int) -> None:
        """Finishes the runs, waiting a bounded time for the network."""

        def finish(run: Any) -> None:
            try:
                run.finish(exit_code=exit_code)
            except Exception as error:
                self._give_up(error)

        threads = [threading.Thread(target=finish, args=(run,), daemon=True) for run in self._runs.values()]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
        if any(thread.is_alive() for thread in threads):
            self._terminal.warn(
                "W&B is still uploading; `wandb sync` on the run's wandb/ directory completes it"
            )

    def _give_up(self, error: Exception) -> None:
        self._terminal.warn(f"W&B stopped ({_first_line(error)}); training goes on without it")
        self._runs = {}


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:150]}"
