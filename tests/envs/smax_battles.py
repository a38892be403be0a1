"""Small battles set up by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax.envs.smax import core, observation, opponent
from seca_jax.envs.smax.battle import STOP, Battle, Noise, State, make_battle
from seca_jax.envs.smax.scenarios import Scenario
from seca_jax.envs.smax.units import TABLE

FAST_COMPILE = {"xla_backend_optimization_level": 0}  # few steps are played here: compiling is the cost


def skirmish(allies: tuple[int, ...], enemies: tuple[int, ...], **kwargs) -> Battle:
    """The constants of a battle between two line-ups."""
    return make_battle(Scenario("skirmish", allies, enemies, 100, upstream=False, **kwargs), 100)


def place(battle: Battle, positions: list[tuple[float, float]], **planes) -> State:
    """One battle (``B`` = 1), everybody where told, well and loaded; ``planes`` override, a list per unit."""
    column = lambda values, dtype=jnp.float32: jnp.asarray(values, dtype)[:, None]  # noqa: E731
    num_units, num_enemies = battle.num_units, battle.num_enemies
    position = np.array(positions, np.float32)
    assert position.shape == (num_units, 2)
    state = State(
        x=column(position[:, 0]),
        y=column(position[:, 1]),
        health=column(TABLE.health[battle.types]),
        cooldown=jnp.zeros((num_units, 1)),
        action=jnp.full((num_units, 1), STOP, jnp.int32),
        goal_x=jnp.zeros((num_enemies, 1)),
        goal_y=jnp.zeros((num_enemies, 1)),
        victim=jnp.full((num_enemies, 1), -1, jnp.int32),
        step=jnp.zeros(1, jnp.int32),
        unit_type=None,
        energy=jnp.full((num_units, 1), 50.0) if battle.heals.any() else None,
    )
    return state.replace(**{name: column(values) for name, values in planes.items()})


def quiet(battle: Battle) -> Noise:
    """No luck: cooldowns as in the table, the first visible ally is chased."""
    enemies = (battle.num_enemies, 1)
    return Noise(jnp.zeros((1, battle.num_units, 1)), jnp.full(enemies, 0.999), jnp.full(enemies, 0.999))


@functools.lru_cache
def _compiled(battle: Battle):
    return jax.jit(functools.partial(core.transition, battle), compiler_options=FAST_COMPILE)


@functools.lru_cache
def _viewer(battle: Battle):
    return jax.jit(functools.partial(observation.available, battle), compiler_options=FAST_COMPILE)


def available(battle: Battle, state: State) -> np.ndarray:
    """Masks of the allies of one battle, ``[N, A]``."""
    return np.asarray(_viewer(battle)(state))[0]


@functools.lru_cache
def _opponent(battle: Battle):
    return jax.jit(functools.partial(opponent.act, battle, aim=None), compiler_options=FAST_COMPILE)


def enemy_actions(battle: Battle, state: State) -> np.ndarray:
    """What the opponent does next, ``[E]``."""
    return np.asarray(_opponent(battle)(state, quiet(battle).chase)[0])[:, 0]


def step(battle: Battle, state: State, *actions: int):
    """One step of a battle placed by hand: the allies' actions, no luck. Returns state and outcome."""
    return _compiled(battle)(state, jnp.array([actions], jnp.int32), quiet(battle))
