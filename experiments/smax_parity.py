"""Do battles on our core end as they do on jaxmarl's? Win rates of scripted allies on both.

    python experiments/smax_parity.py --maps 3m 2s3z --battles 10000 --out experiments/results/smax_parity

writes OUT.json and OUT.md, where rows of other maps stay. Step-by-step agreement from equal states and
equal random numbers is tested in tests/envs/test_smax_parity.py; this covers what that cannot: starts and
the draws themselves.
"""

import argparse
import functools
import json
import math
from importlib.metadata import version
from pathlib import Path
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np
import summary

from seca_jax.envs.smax import core, observation, scripted
from seca_jax.envs.smax.battle import Battle, State, make_battle
from seca_jax.envs.smax.scenarios import SCENARIOS, max_steps
from seca_jax.show import verdict

AT_ONCE = 1000  # battles played side by side
POLICIES = ("random", "focus_fire")
Policy = Callable[[jax.Array, Battle, State, jax.Array], jax.Array]  # key, battle, state, avail -> action
Player = Callable[[jax.Array], scripted.Tally]  # plays AT_ONCE battles


def upstream_player(map_name: str, policy: Policy) -> Player:
    """``key -> Tally`` of ``AT_ONCE`` battles on jaxmarl's simulator."""
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

    env = HeuristicEnemySMAX(scenario=map_name_to_scenario(map_name))
    scenario = SCENARIOS[map_name]
    battle = make_battle(scenario, max_steps(scenario, "upstream"))

    def act(key: jax.Array, state: Any) -> jax.Array:
        """Policies read positions, health and types: the rest of our state is left empty."""
        inner = state.state
        empty: dict[str, Any] = dict.fromkeys(("action", "goal_x", "goal_y", "victim", "step", "energy"))
        ours = State(
            x=inner.unit_positions[..., 0].T,
            y=inner.unit_positions[..., 1].T,
            health=inner.unit_health.T,
            cooldown=inner.unit_weapon_cooldowns.T,
            unit_type=inner.unit_types.T.astype(jnp.int32) if scenario.random_start else None,
            **empty,
        )
        masks = jax.vmap(env.get_avail_actions)(state)
        avail = jnp.stack([masks[name] for name in env.agents], axis=1).astype(bool)
        return policy(key, battle, ours, avail)

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        joint = {name: action[:, index] for index, name in enumerate(env.agents)}
        keys = jax.random.split(key, AT_ONCE)
        _, state, reward, done, _ = jax.vmap(env.step_env)(keys, state, joint)
        alive = state.state.unit_alive
        won = ~alive[:, env.num_allies :].any(1) & alive[:, : env.num_allies].any(1)
        return state, reward[env.agents[0]], done["__all__"], won

    @jax.jit
    def play(key: jax.Array) -> scripted.Tally:
        reset_key, play_key = jax.random.split(key)
        _, state = jax.vmap(env.reset)(jax.random.split(reset_key, AT_ONCE))
        return scripted.play(act, step, state, play_key, AT_ONCE, battle.max_steps)

    return play


def core_player(map_name: str, policy: Policy) -> Player:
    """``key -> Tally`` of ``AT_ONCE`` battles on our core."""
    env = core.make(map_name)
    battle = make_battle(SCENARIOS[map_name], env.max_steps)

    def act(key: jax.Array, state: Any) -> jax.Array:
        return policy(key, battle, state, observation.available(battle, state))

    def step(key: jax.Array, state: Any, action: jax.Array) -> tuple[Any, jax.Array, jax.Array, jax.Array]:
        state, outcome = env.step(key, state, action)
        return state, outcome.reward, outcome.terminated | outcome.truncated, outcome.won

    @jax.jit
    def play(key: jax.Array) -> scripted.Tally:
        reset_key, play_key = jax.random.split(key)
        return scripted.play(act, step, env.reset(reset_key, AT_ONCE), play_key, AT_ONCE, battle.max_steps)

    return play


def sample(player: Player, battles: int, seed: int) -> dict[str, Any]:
    """Means over ``battles`` battles, with the standard errors of returns and lengths."""
    keys = jax.random.split(jax.random.key(seed), max(1, battles // AT_ONCE))
    tallies = [jax.device_get(player(key)) for key in keys]
    won, reward, length = (np.concatenate(parts).astype(float) for parts in zip(*tallies))
    error = functools.partial(np.std, ddof=1)
    root = math.sqrt(len(won))
    return {
        "battles": len(won),
        "win_rate": won.mean(),
        "return": reward.mean(),
        "return_se": error(reward) / root,
        "length": length.mean(),
        "length_se": error(length) / root,
    }


def compare(map_name: str, name: str, battles: int, seed: int) -> dict[str, Any]:
    """One row: both simulators' means, and differences in standard errors."""
    policy = scripted.POLICIES[name]
    ours = sample(core_player(map_name, policy), battles, seed)
    theirs = sample(upstream_player(map_name, policy), battles, seed + 1)
    pooled = (ours["win_rate"] + theirs["win_rate"]) / 2
    spread = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / ours["battles"] + 1 / theirs["battles"]))
    z = {"win_rate": (ours["win_rate"] - theirs["win_rate"]) / spread}
    for key in ("return", "length"):
        z[key] = (ours[key] - theirs[key]) / math.hypot(ours[f"{key}_se"], theirs[f"{key}_se"])
    return {"map": map_name, "policy": name, "core": ours, "upstream": theirs, "z": z}


def markdown(rows: list[dict[str, Any]]) -> str:
    names = ["map", "allies", "battles a side", "wins, core", "wins, upstream (95 %)", "return", "length"]
    table = [[*names, "z (wins, return, length)"]]
    for row in rows:
        ours, theirs = row["core"], row["upstream"]
        rates = []
        for side in (ours, theirs):
            low, high = verdict.win_rate(round(side["win_rate"] * side["battles"]), side["battles"])
            rates.append(f"{side['win_rate']:.4f} ({low:.4f} to {high:.4f})")
        means = [f"{ours[key]:.3f} / {theirs[key]:.3f}" for key in ("return", "length")]
        scores = ", ".join(f"{value:+.1f}" for value in row["z"].values())
        table.append([row["map"], row["policy"], str(ours["battles"]), *rates, *means, scores])
    return summary.markdown(table) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--maps", nargs="+", default=["3m", "2s3z", "3s_vs_5z", "smacv2_5_units"])
    parser.add_argument("--battles", type=int, default=10_000, help="a side, per map and policy")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("experiments/results/smax_parity"))
    arguments = parser.parse_args()
    path = arguments.out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = json.loads(path.read_text())["rows"] if path.exists() else []
    versions = {name: version(name) for name in ("jax", "jaxmarl")}
    for map_name in arguments.maps:
        rows = [compare(map_name, name, arguments.battles, arguments.seed) for name in POLICIES]
        print("\n".join(markdown(rows).splitlines()[2:]), flush=True)
        # After every map: the large ones take minutes each, and an interruption should cost one of them
        stored = [row for row in stored if row["map"] != map_name] + rows
        path.write_text(json.dumps({"versions": versions, "rows": stored}, indent=1) + "\n")
        path.with_suffix(".md").write_text(f"{versions}; core / upstream.\n\n{markdown(stored)}")


if __name__ == "__main__":
    main()
