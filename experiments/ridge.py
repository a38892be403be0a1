"""How much stepping back 2c_vs_64zg asks for: python experiments/ridge.py

Scripts of :mod:`seca_jax.envs.smax.scripted` play the map mixed, each step drawn anew: the one that steps
back between shots in a share of the steps, and in the others one that only shoots, or one that does anything.
Battles won, zerglings killed, steps, and the shares of moves and of shots among the Colossi's actions. Takes
minutes; the table goes to experiments/results/ridge.{json,md}. Options:
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured

from seca_jax.config import commands
from seca_jax.config.keys import key
from seca_jax.config.words import options as checked_options

RESULTS = Path(__file__).parent / "results"
MAP = "2c_vs_64zg"
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
OTHERS = {"focus_fire": "shoots, walks up", "random": "does anything"}


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    battles: int = key(256, "battles of each mixture", low=1)
    seed: int = key(0, "of the battles", low=0)


def play(share: float, other: str, battles: int, seed: int) -> dict[str, Any]:
    """How battles end in which the team steps back in ``share`` of the steps."""
    import jax
    import jax.numpy as jnp

    from seca_jax.envs.smax import core, observation, scripted
    from seca_jax.envs.smax.battle import NUM_MOVES, STOP, make_battle
    from seca_jax.envs.smax.scenarios import SCENARIOS

    env = core.make(MAP)
    battle = make_battle(SCENARIOS[MAP], env.max_steps)
    allies = battle.num_allies

    def step(carry: tuple, random: jax.Array) -> tuple:
        state, live = carry
        coin, any_key, step_key = jax.random.split(random, 3)
        avail = observation.available(battle, state)
        back = scripted.kite(any_key, battle, state, avail)
        rest = scripted.POLICIES[other](any_key, battle, state, avail)
        action = jnp.where(jax.random.bernoulli(coin, share, (battles, 1)), back, rest)
        able = live[:, None] & (state.health[:allies] > 0).T
        counts = jnp.stack(
            [jnp.sum(able & (action < STOP)), jnp.sum(able & (action >= NUM_MOVES)), jnp.sum(able)]
        )
        killed = jnp.where(live, jnp.sum(state.health[allies:] <= 0, axis=0), 0)  # before the last step
        state, outcome = env.step(step_key, state, action)
        return (state, live & ~(outcome.terminated | outcome.truncated)), (
            live & outcome.won,
            live,
            killed,
            counts,
        )

    @jax.jit
    def whole(random: jax.Array) -> Any:
        first, rest = jax.random.split(random)
        start = env.reset(first, battles), jnp.ones(battles, bool)
        _, (won, live, killed, counts) = jax.lax.scan(step, start, jax.random.split(rest, env.max_steps))
        moves, shots, actions = jnp.sum(counts, axis=0)
        return {
            "won": jnp.mean(jnp.any(won, axis=0)),
            "killed": jnp.mean(jnp.where(jnp.any(won, axis=0), battle.num_enemies, jnp.max(killed, axis=0))),
            "steps": jnp.mean(jnp.sum(live, axis=0)),
            "moves": moves / actions,
            "shots": shots / actions,
        }

    found = jax.device_get(whole(jax.random.key(seed)))
    return {"share": share, "other": other, **{name: float(value) for name, value in found.items()}}


def report(words: list[str]) -> None:
    """Measure and write it; raises ConfigError, OSError."""
    options: Options = checked_options(words, Options)
    import jax

    rows = [play(share, other, options.battles, options.seed) for other in OTHERS for share in SHARES]
    names = [
        "else the team",
        "steps in which it steps back",
        "won",
        "zerglings killed",
        "steps",
        "moves",
        "shots",
    ]
    cells = [names]
    for row in rows:
        shares = [f"{100 * row[name]:.0f} %" for name in ("moves", "shots")]
        numbers = [f"{100 * row['won']:.1f} %", f"{row['killed']:.1f}", f"{row['steps']:.0f}", *shares]
        cells.append([OTHERS[row["other"]], f"{100 * row['share']:.0f} %", *numbers])
    document = measured.origin("experiments/ridge.py", words, jax.devices()[:1])
    measured.save(
        RESULTS / "ridge.json", document | {"rows": rows}, cells, f"{options.battles} battles of {MAP} a row"
    )


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(report, words, lambda: commands.usage((__doc__ or "").strip(), Options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
