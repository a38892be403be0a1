"""jaxmarl's SMAX as the oracle: its states and its random numbers in the core's layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax.battle import STOP, Noise, State


@functools.cache
def upstream(map_name: str, observation: str = "unit_list", opponent: str = "closest", **options):
    """jaxmarl's environment for a map (importing jaxmarl is slow, hence in here)."""
    from jaxmarl.environments.smax import HeuristicEnemySMAX, map_name_to_scenario

    options = {name: jnp.array(x) if isinstance(x, tuple) else x for name, x in options.items()}
    drawn = {name: options.pop(name) for name in list(options) if name.startswith("smacv2")}
    scenario = map_name_to_scenario(map_name).replace(**drawn)
    return HeuristicEnemySMAX(
        scenario=scenario, observation_type=observation, attack_mode=opponent, **options
    )


def to_core(env, state, draws_types: bool) -> State:
    """A batched upstream state as the core's."""
    inner, policy = state.state, state.enemy_policy_state
    move = np.asarray(inner.prev_movement_actions)
    attack = np.asarray(inner.prev_attack_actions)
    action = np.full(attack.shape, STOP)
    action[move[..., 1] > 0.5] = 0
    action[move[..., 0] > 0.5] = 1
    action[move[..., 1] < -0.5] = 2
    action[move[..., 0] < -0.5] = 3
    action = np.where(attack > STOP, attack, action)
    plane = lambda array, dtype=np.float32: jnp.asarray(np.asarray(array).T.astype(dtype))  # noqa: E731
    return State(
        x=plane(inner.unit_positions[..., 0]),
        y=plane(inner.unit_positions[..., 1]),
        health=plane(inner.unit_health),
        cooldown=plane(inner.unit_weapon_cooldowns),
        action=plane(action, np.int32),
        goal_x=plane(policy.default_target[..., 0]),
        goal_y=plane(policy.default_target[..., 1]),
        victim=plane(policy.last_attacked_enemy, np.int32),
        step=jnp.asarray(inner.step, jnp.int32),
        unit_type=plane(inner.unit_types, np.int32) if draws_types else None,
        energy=None,
    )


def noise_of(key: jax.Array, num_allies: int, num_enemies: int, substeps: int = 8) -> tuple:
    """The random numbers that upstream's ``step_env(key, ...)`` will draw, for one environment.

    Cooldown deviations ``[substeps, U]``, then uniforms ``[E]`` for the walk and for the aim.
    """
    key, action_key = jax.random.split(key)

    def enemy(enemy_key):
        enemy_key, attack_key = jax.random.split(enemy_key)
        return jax.random.uniform(enemy_key), jax.random.uniform(attack_key)

    def substep(key, _):
        key, world_key = jax.random.split(key)
        keys = jax.random.split(world_key, num_allies + num_enemies)
        return key, jax.vmap(lambda k: jax.random.uniform(k, minval=-1 / 16, maxval=2 / 16))(keys)

    chase, aim = jax.vmap(enemy)(jax.random.split(action_key, num_enemies))
    _, deviations = jax.lax.scan(substep, key, length=substeps)
    return deviations, chase, aim


def batched_noise(
    keys: jax.Array, num_allies: int, num_enemies: int, *, aim: bool, substeps: int = 8
) -> Noise:
    """:func:`noise_of` for keys ``[B]``, in the core's layout."""
    draw = jax.vmap(
        functools.partial(noise_of, num_allies=num_allies, num_enemies=num_enemies, substeps=substeps)
    )
    cooldown, chase, aims = draw(keys)
    return Noise(cooldown=jnp.moveaxis(cooldown, 0, 2), chase=chase.T, aim=aims.T if aim else None)
