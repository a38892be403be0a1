"""Win rates of scripted and random allies on our SMAX core, as a Markdown table.

    python experiments/smax_scripted.py --maps 2s3z MMM2 --battles 1024

A map that random play wins, or that no script can ever win, is set up wrongly.
"""

import argparse
from typing import Any

import jax
import numpy as np

from seca_jax.envs.smax import core, observation, scripted
from seca_jax.envs.smax.battle import make_battle
from seca_jax.envs.smax.scenarios import SCENARIOS

PAPER_MAPS = ("2s3z", "1c3s5z", "2c_vs_64zg", "3s_vs_5z", "MMM2", "3s5z_vs_3s6z")


def tally(map_name: str, name: str, battles: int, seed: int) -> scripted.Tally:
    env = core.make(map_name)
    battle = make_battle(SCENARIOS[map_name], env.max_steps)
    policy = scripted.POLICIES[name]

    def act(key: jax.Array, state: Any) -> jax.Array:
        return policy(key, battle, state, observation.available(battle, state))

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        state, outcome = env.step(key, state, action)
        return state, outcome.reward, outcome.terminated | outcome.truncated, outcome.won

    @jax.jit
    def play(key: jax.Array) -> scripted.Tally:
        reset_key, play_key = jax.random.split(key)
        return scripted.play(act, step, env.reset(reset_key, battles), play_key, battles, env.max_steps)

    return jax.device_get(play(jax.random.key(seed)))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--maps", nargs="+", default=PAPER_MAPS)
    parser.add_argument("--battles", type=int, default=1024)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print("| map | " + " | ".join(scripted.POLICIES) + " |")
    print("| --- |" + " --- |" * len(scripted.POLICIES))
    for map_name in arguments.maps:
        cells = []
        for name in scripted.POLICIES:
            result = tally(map_name, name, arguments.battles, arguments.seed)
            cells.append(f"{100 * np.mean(result.won):.1f} % ({np.mean(result.reward):.2f})")
        print(f"| {map_name} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
