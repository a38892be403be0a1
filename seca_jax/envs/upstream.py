"""jaxmarl's own SMAX behind our protocol: the oracle that the batched core is measured against.

One battle at a time under ``vmap``, as upstream wrote it.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.arrays import select_rows
from seca_jax.envs.base import Environment, each
from seca_jax.envs.quietly import jaxmarl
from seca_jax.envs.smax.battle import NUM_MOVES, make_battle
from seca_jax.envs.smax.frame import Frame
from seca_jax.envs.smax.physics import targets
from seca_jax.envs.smax.scenarios import UPSTREAM_RULES, Rules, Scenario, max_steps
from seca_jax.envs.smax.units import TABLE, UPSTREAM_TYPES
from seca_jax.types import Outcome, View


def scaled_state(
    raw: jax.Array, num_units: int, type_bits: int, size: float, cooldowns: np.ndarray
) -> jax.Array:
    """Upstream's world state with every feature in about [-1, 1], same length and order.

    Upstream gives positions in map cells, cooldowns in seconds (falling without end while a unit
    does not shoot) and the type as a number; a critic fed with these diverges.

    Args:
        raw: [B, num_units * (4 + type_bits) + 2 * num_units].
        num_units: units of both teams.
        type_bits: one-hot features of the type.
        size: side of the square map, cells.
        cooldowns: [type_bits] weapon cooldown of each type, seconds.

    Returns:
        [B, S]: per unit health fraction, position relative to the map's centre in half map sides
        (0 for the dead), remaining cooldown as a share of its weapon's, type bits; then the teams as
        0 and 1, then the types as shares of the largest index.
    """
    width = 4 + type_bits
    units = raw[:, : num_units * width].reshape(-1, num_units, width)
    teams, types = jnp.split(raw[:, num_units * width :], 2, axis=-1)
    bits = units[..., 4:]
    alive = jnp.sum(bits, axis=-1, keepdims=True)
    position = (units[..., 1:3] / (size / 2) - 1.0) * alive
    own_cooldown = bits @ jnp.asarray(cooldowns, raw.dtype)
    cooldown = jnp.clip(units[..., 3] / jnp.maximum(own_cooldown, 1e-6), 0.0, 1.0)[..., None]
    units = jnp.concatenate([units[..., :1], position, cooldown, bits], axis=-1)
    return jnp.concatenate([units.reshape(len(raw), -1), teams, types / (type_bits - 1)], axis=-1)


def make(
    scenario: Scenario,
    *,
    observation: str = "unit_list",
    state: str = "scaled",
    opponent: str = "closest",
    reward_scale: float = 10.0,
    time_limit: str = "upstream",
    rules: Rules = UPSTREAM_RULES,
) -> Environment:
    """An upstream map as an :class:`Environment`.

    Args:
        scenario: a map that jaxmarl has too, under the same name.
        observation: ``unit_list`` or ``conic``.
        state: ``scaled`` (see :func:`scaled_state`) or ``raw``.
        opponent: whom the scripted opponent shoots, ``closest`` or ``random``.
        reward_scale: factor on rewards.
        time_limit: ``upstream`` or ``smac``, as the core's.
        rules: as the core's.
    """
    smax = jaxmarl("environments.smax")
    limit = max_steps(scenario, time_limit)
    ours = make_battle(scenario, limit, rules)
    battle = smax.HeuristicEnemySMAX(
        scenario=smax.map_name_to_scenario(scenario.name).replace(
            smacv2_position_generation=ours.random_positions, smacv2_unit_type_generation=ours.random_types
        ),
        attack_mode=opponent,
        observation_type=observation,
        # Upstream tests its limit before the step counter moves: one transition late.
        max_steps=limit - 1,
        see_enemy_actions=rules.see_enemy_actions,
        walls_cause_death=rules.walls_cause_death,
        enemy_shoots=rules.enemy_shoots,
        won_battle_bonus=rules.won_battle_bonus,
        world_steps_per_env_step=rules.world_steps,
        time_per_step=rules.step_seconds,
        unit_type_sight_ranges=jnp.asarray(ours.table.sight[:UPSTREAM_TYPES]),
    )
    core = battle._env
    agents = battle.agents
    num_allies, num_units = core.num_allies, core.num_agents

    def reset(key: jax.Array, num_envs: int) -> Any:
        return jax.vmap(battle.reset)(jax.random.split(key, num_envs))[1]

    def view(battles: Any) -> View:
        obs = jax.vmap(battle.get_obs)(battles)
        avail = jax.vmap(battle.get_avail_actions)(battles)
        world = jax.vmap(battle.get_world_state)(battles)
        if state == "scaled":
            cooldowns = np.asarray(core.unit_type_weapon_cooldowns)
            world = scaled_state(world, num_units, core.unit_type_bits, core.map_width, cooldowns)
        return View(
            obs=jnp.stack([obs[a] for a in agents], axis=1),
            avail=jnp.stack([avail[a] for a in agents], axis=1).astype(bool),
            state=world,
        )

    def step(key: jax.Array, battles: Any, action: jax.Array) -> tuple[Any, Outcome]:
        keys = each(key, action.shape[0])
        actions = {a: action[:, i] for i, a in enumerate(agents)}
        _, after, reward, _, _ = jax.vmap(battle.step_env)(keys, battles, actions)
        alive = after.state.unit_alive
        ally, enemy = alive[:, :num_allies].any(-1), alive[:, num_allies:].any(-1)
        terminated = ~ally | ~enemy
        return after, Outcome(
            reward=reward[agents[0]] * reward_scale,
            terminated=terminated,
            truncated=after.state.done & ~terminated,
            won=ally & ~enemy,
        )

    def restart(key: jax.Array, battles: Any, ended: jax.Array) -> Any:
        return select_rows(ended, reset(key, ended.shape[0]), battles)

    def frame(battles: Any) -> Frame:
        inner = battles.state
        kinds = inner.unit_types.astype(jnp.int32)
        cooldown = inner.unit_weapon_cooldowns / jnp.asarray(TABLE.cooldown)[kinds]
        return Frame(
            x=inner.unit_positions[..., 0],
            y=inner.unit_positions[..., 1],
            health_fraction=inner.unit_health / jnp.asarray(TABLE.health)[kinds],
            alive=inner.unit_alive.astype(bool),
            unit_type=kinds,
            # Upstream numbers targets as the core does; a unit that moves has no target.
            target=targets(ours, inner.prev_attack_actions.astype(jnp.int32).T).T,
            cooldown_fraction=jnp.clip(cooldown, 0.0, 1.0),
            num_allies=num_allies,
            ridge=scenario.ridge,
        )

    return Environment(
        name=scenario.name,
        num_agents=num_allies,
        num_actions=core.num_ally_actions,
        obs_size=core.obs_size,
        state_size=core.state_size,
        max_steps=limit,
        reward_scale=reward_scale,
        reset=reset,
        step=step,
        view=view,
        restart=restart,
        select=select_rows,
        frame=frame,
        moves=NUM_MOVES,
    )
