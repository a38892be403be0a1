"""SMAX on the core behind jaxmarl's own interface, for scripts that were written for jaxmarl.

jaxmarl writes an environment for one battle and scripts ``vmap`` it; the core steps whole batches. What
joins them is ``jax.custom_batching.custom_vmap``: however a script nests ``vmap``, ``scan`` and ``jit``,
all battles of a call reach the core as one batch.
"""

import functools
import inspect
from typing import Any, Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.envs.base import split
from seca_jax.envs.quietly import jaxmarl
from seca_jax.envs.smax import battle as battles
from seca_jax.envs.smax import core, spawn
from seca_jax.envs.smax import observation as views
from seca_jax.envs.smax.scenarios import MAP_SIZE, SCENARIOS, Rules, Scenario
from seca_jax.envs.smax.units import MARINE, TABLE, UPSTREAM_TYPES, UnitTable

FIGURES = {
    "unit_type_velocities": "velocity",
    "unit_type_attacks": "attack",
    "unit_type_attack_ranges": "attack_range",
    "unit_type_sight_ranges": "sight",
    "unit_type_radiuses": "radius",
    "unit_type_health": "health",
    "unit_type_weapon_cooldowns": "cooldown",
}
"""The column of the unit table that an option of jaxmarl's replaces."""

Agents = dict[str, jax.Array]  # by agent, and under further names such as "world_state" and "__all__"


@struct.dataclass
class State:
    """One battle; under ``vmap`` every leaf has the batch's axes in front."""

    planes: battles.State  # the core's, [U] or [E] of one battle each

    @property
    def state(self) -> "State":
        """Itself: jaxmarl keeps the battle one level deeper, beside its opponent's memory."""
        return self

    @property
    def unit_positions(self) -> jax.Array:
        """[U, 2] map cells."""
        return jnp.stack([self.planes.x, self.planes.y], axis=-1)

    @property
    def unit_health(self) -> jax.Array:
        """[U]."""
        return self.planes.health

    @property
    def unit_alive(self) -> jax.Array:
        """[U] bool."""
        return self.planes.health > 0

    @property
    def unit_weapon_cooldowns(self) -> jax.Array:
        """[U] seconds; negative: ready since that long."""
        return self.planes.cooldown

    @property
    def step(self) -> jax.Array:
        """int32, transitions so far."""
        return self.planes.step


def batched(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of whole batches, so that ``vmap`` makes its batch larger instead of batching it.

    Args:
        function: takes and returns trees of arrays whose first axis is the batch's.

    Returns:
        The same function. Under ``vmap`` over ``M``, also nested, it is called once, with ``M`` times as
        many rows; what is not mapped over is repeated for them.
    """
    whole = jax.custom_batching.custom_vmap(function)

    @whole.def_vmap
    def rule(size: int, mapped: Any, *args: Any) -> tuple[Any, Any]:
        def join(x: jax.Array, is_mapped: bool) -> jax.Array:
            x = x if is_mapped else jnp.broadcast_to(x, (size, *x.shape))
            return x.reshape(-1, *x.shape[2:])

        found = whole(*jax.tree.map(join, args, tuple(mapped)))
        found = jax.tree.map(lambda x: x.reshape(size, -1, *x.shape[1:]), found)
        return found, jax.tree.map(lambda _: True, found)

    return whole


def _one(function: Callable[..., Any], *args: Any) -> Any:
    """``function`` of a batch for a single row."""
    found = function(*jax.tree.map(lambda x: jnp.asarray(x)[None], args))
    return jax.tree.map(lambda x: x[0], found)


def _typed(key: jax.Array) -> jax.Array:
    """A key of jax.random.key's kind; scripts have jax.random.PRNGKey's."""
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)


def _turned(planes: battles.State) -> battles.State:
    """States with B last for the core, and back."""
    return jax.tree.map(lambda x: x.swapaxes(0, -1), planes)


def map_name_to_scenario(map_name: str) -> Scenario:
    """The teams of a map, jaxmarl's or one of those that it lacks.

    Raises:
        KeyError: no such map.
    """
    return SCENARIOS[map_name]


def _scenario(scenario: Any) -> Scenario:
    """Ours, from jaxmarl's own ``Scenario``."""
    if isinstance(scenario, Scenario):
        return scenario
    types = tuple(int(index) for index in np.asarray(scenario.unit_types))
    allies, enemies = types[: scenario.num_allies], types[scenario.num_allies :]
    drawn = bool(scenario.smacv2_position_generation), bool(scenario.smacv2_unit_type_generation)
    for known in SCENARIOS.values():
        if (known.allies, known.enemies, (known.random_start, known.random_types)) == (
            allies,
            enemies,
            drawn,
        ):
            return known
    return Scenario("custom", allies, enemies, 0, random_start=drawn[0], random_types=drawn[1])


def _figures(options: dict[str, Any]) -> UnitTable:
    """The unit table with the figures that jaxmarl's options give, which are taken out of them."""
    table = TABLE
    for name, column in FIGURES.items():
        if name in options:
            known, given = getattr(table, column), np.asarray(options.pop(name), np.float32)
            if given.shape != (UPSTREAM_TYPES,):
                raise ValueError(f"{name}: expected a figure for each of {UPSTREAM_TYPES} types, not {given}")
            table = table._replace(**{column: np.concatenate([given, known[UPSTREAM_TYPES:]])})
    return table


def _refuse(options: dict[str, Any]) -> None:
    """Let upstream's own values of what the core cannot vary pass, and nothing else."""
    known = inspect.signature(jaxmarl("environments.smax").SMAX).parameters
    for name, value in options.items():
        if name not in known:
            raise TypeError(f"unknown option {name!r} of HeuristicEnemySMAX")
        if not np.array_equal(np.asarray(value), np.asarray(known[name].default)):
            raise ValueError(
                f"{name}={value!r}: the core has jaxmarl's default only, {known[name].default!r}"
            )


class HeuristicEnemySMAX:
    """``jaxmarl.environments.smax.HeuristicEnemySMAX`` on the core.

    Observations, world state and rewards are in jaxmarl's units. Random numbers are drawn otherwise, so
    the same key gives another battle.
    """

    def __init__(
        self,
        *,
        scenario: Any = None,
        num_allies: int = 5,
        num_enemies: int = 5,
        attack_mode: str = "closest",
        observation_type: str = "unit_list",
        max_steps: int | None = None,
        smacv2_position_generation: bool = False,
        smacv2_unit_type_generation: bool = False,
        see_enemy_actions: bool = True,
        walls_cause_death: bool = True,
        enemy_shoots: bool = True,
        won_battle_bonus: float = 1.0,
        world_steps_per_env_step: int = 8,
        time_per_step: float = 1 / 16,
        **options: Any,
    ) -> None:
        """A map's environment.

        Args:
            scenario: of :func:`map_name_to_scenario`, ours or jaxmarl's; None: marines.
            num_allies: without a scenario.
            num_enemies: without a scenario.
            attack_mode: whom the opponent shoots, ``closest`` or ``random``.
            observation_type: ``unit_list`` or ``conic``.
            max_steps: as jaxmarl counts: the battle is over with the transition after these. None: the map's.
            smacv2_position_generation: without a scenario: draw positions for every battle.
            smacv2_unit_type_generation: without a scenario: draw unit types for every battle.
            see_enemy_actions: whether observations tell what enemies did last.
            walls_cause_death: whether units at the map's edge die, or only stop there.
            enemy_shoots: whether the opponent shoots.
            won_battle_bonus: reward of a win.
            world_steps_per_env_step: physics steps in a step.
            time_per_step: seconds of a physics step.
            **options: :data:`FIGURES` of jaxmarl's six unit types, [6] each; others with their defaults.

        Raises:
            ValueError: an option's value that the core does not have.
            TypeError: an option that jaxmarl does not have either.
        """
        core.check("attack_mode", attack_mode, core.OPPONENTS)
        core.check("observation_type", observation_type, core.OBSERVATIONS)
        table = _figures(options)
        _refuse(options)
        if scenario is None:
            scenario = Scenario(
                "custom",
                (MARINE,) * num_allies,
                (MARINE,) * num_enemies,
                0,
                random_start=smacv2_position_generation,
                random_types=smacv2_unit_type_generation,
            )
        scenario = _scenario(scenario)
        rules = Rules(
            see_enemy_actions=see_enemy_actions,
            walls_cause_death=walls_cause_death,
            enemy_shoots=enemy_shoots,
            won_battle_bonus=won_battle_bonus,
            world_steps=world_steps_per_env_step,
            step_seconds=time_per_step,
        )
        limit = scenario.max_steps if max_steps is None else max_steps + 1
        battle = battles.make_battle(scenario, limit, rules, table)
        self.battle = battle
        self.attack_mode = attack_mode
        self.observation_type = observation_type
        self.max_steps = limit - 1
        self.num_allies = self.num_agents = battle.num_allies
        self.num_enemies = battle.num_enemies
        self.num_ally_actions = battle.num_actions
        self.num_enemy_actions = battle.num_enemy_actions
        self.num_movement_actions = battles.NUM_MOVES
        self.world_steps_per_env_step = rules.world_steps
        self.map_width = self.map_height = int(MAP_SIZE)
        self.unit_type_bits = battle.num_types
        self.agents = [f"ally_{i}" for i in range(battle.num_allies)]
        self.enemy_agents = [f"enemy_{i}" for i in range(battle.num_enemies)]
        self.all_agents = self.agents + self.enemy_agents
        self.obs_size, self.state_size = views.sizes(battle, observation_type)
        spaces = jaxmarl("environments.spaces")
        self.observation_spaces = {a: spaces.Box(-1.0, 1.0, (self.obs_size,)) for a in self.agents}
        self.action_spaces = {a: spaces.Discrete(battle.num_actions) for a in self.agents}
        self._batch_reset = batched(self._reset)
        self._batch_step = batched(self._step)
        self._batch_step_reset = batched(self._step_reset)
        self._batch_step_from = batched(self._step_from)
        self._batch_look = batched(self._look)
        self._batch_available = batched(self._available)

    @property
    def name(self) -> str:
        """What jaxmarl's wrappers know SMAX by."""
        return type(self).__name__

    @property
    def agent_classes(self) -> dict[str, list[str]]:
        """The agents that learn, of one class."""
        return {"allies": self.agents}

    def observation_space(self, agent: str) -> Any:
        """``Box`` of ``(O,)``."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        """``Discrete`` of ``A``."""
        return self.action_spaces[agent]

    @functools.partial(jax.jit, static_argnums=0)
    def reset(self, key: jax.Array) -> tuple[Agents, State]:
        """A fresh battle: observations [O] by agent with ``world_state`` [S], and the state."""
        planes, seen = _one(self._batch_reset, _typed(key))
        return self._named(*seen), State(planes)

    @functools.partial(jax.jit, static_argnums=0)
    def step(
        self, key: jax.Array, state: State, actions: Agents, reset_state: State | None = None
    ) -> tuple[Agents, State, Agents, Agents, dict[str, Any]]:
        """One transition, and where it ended the battle a fresh one, or ``reset_state``.

        Args:
            key: for this battle's luck and the next one's start.
            state: of ``reset`` or ``step``.
            actions: an integer by agent.
            reset_state: the battle that follows on one that has ended.

        Returns:
            observations by agent with ``world_state``, of the battle that follows; its state; reward by
            agent, the team's; whether the agent is dead, by agent, and under ``__all__`` whether the
            battle has ended; an empty dictionary.
        """
        following = () if reset_state is None else (reset_state.planes,)
        step = self._batch_step_from if following else self._batch_step_reset
        return self._told(_one(step, _typed(key), state.planes, self._joint(actions), *following))

    @functools.partial(jax.jit, static_argnums=0)
    def step_env(
        self, key: jax.Array, state: State, actions: Agents
    ) -> tuple[Agents, State, Agents, Agents, dict[str, Any]]:
        """:meth:`step` that leaves an ended battle as it is."""
        return self._told(_one(self._batch_step, _typed(key), state.planes, self._joint(actions)))

    @functools.partial(jax.jit, static_argnums=0)
    def get_avail_actions(self, state: State) -> Agents:
        """What each agent may do, [A] uint8 of zeros and ones."""
        avail = _one(self._batch_available, state.planes)
        return {agent: avail[i] for i, agent in enumerate(self.agents)}

    @functools.partial(jax.jit, static_argnums=0)
    def get_obs(self, state: State) -> Agents:
        """Observations by agent."""
        obs = _one(self._batch_look, state.planes)[0]
        return {agent: obs[i] for i, agent in enumerate(self.agents)}

    @functools.partial(jax.jit, static_argnums=0)
    def get_world_state(self, state: State) -> jax.Array:
        """[S]."""
        return _one(self._batch_look, state.planes)[1]

    @functools.partial(jax.jit, static_argnums=0)
    def is_terminal(self, state: State) -> jax.Array:
        """Whether the battle has been decided or its time is up."""
        ally, enemy = jnp.split(state.unit_alive & ~self.battle.heals, [self.num_allies], axis=-1)
        return ~ally.any(-1) | ~enemy.any(-1) | (state.step >= self.battle.max_steps)

    def _joint(self, actions: Agents) -> jax.Array:
        return jnp.stack([jnp.asarray(actions[agent], jnp.int32) for agent in self.agents])

    def _named(self, obs: jax.Array, world: jax.Array) -> Agents:
        return {agent: obs[i] for i, agent in enumerate(self.agents)} | {"world_state": world}

    def _told(self, found: Any) -> tuple[Agents, State, Agents, Agents, dict[str, Any]]:
        planes, seen, reward, dead, ended = found
        rewards: Agents = {agent: reward for agent in self.agents}  # noqa: C420
        dones = {agent: dead[i] for i, agent in enumerate(self.agents)} | {"__all__": ended}
        return self._named(*seen), State(planes), rewards, dones, {}

    # Whole batches from here on: B first in what comes in and goes out, as vmap has it

    def _seen(self, state: battles.State) -> tuple[jax.Array, jax.Array]:
        """Observations [B, N, O] and world states [B, S]."""
        observe = views.conic if self.observation_type == "conic" else views.unit_list
        return observe(self.battle, state), views.world_state(self.battle, state, scaled=False)

    def _look(self, planes: battles.State) -> tuple[jax.Array, jax.Array]:
        return self._seen(_turned(planes))

    def _available(self, planes: battles.State) -> jax.Array:
        return views.available(self.battle, _turned(planes)).astype(jnp.uint8)

    def _reset(self, key: jax.Array) -> Any:
        state = spawn.fresh(self.battle, key, len(key))
        return _turned(state), self._seen(state)

    def _advance(self, key: jax.Array, planes: battles.State, action: jax.Array) -> Any:
        noise = core.draw_noise(self.battle, key, len(key), aim=self.attack_mode == "random")
        state, outcome = core.transition_in_parts(self.battle, _turned(planes), action, noise)
        dead = state.health[: self.num_allies].T <= 0
        return state, (outcome.reward, dead, outcome.terminated | outcome.truncated)

    def _step(self, key: jax.Array, planes: battles.State, action: jax.Array) -> Any:
        state, outcome = self._advance(key, planes, action)
        return _turned(state), self._seen(state), *outcome

    def _step_reset(self, key: jax.Array, planes: battles.State, action: jax.Array) -> Any:
        key, reset_key = split(key)
        state, outcome = self._advance(key, planes, action)
        state = core.select(outcome[-1], spawn.fresh(self.battle, reset_key, len(key)), state)
        return _turned(state), self._seen(state), *outcome

    def _step_from(
        self, key: jax.Array, planes: battles.State, action: jax.Array, following: battles.State
    ) -> Any:
        state, outcome = self._advance(split(key)[0], planes, action)
        state = core.select(outcome[-1], _turned(following), state)
        return _turned(state), self._seen(state), *outcome


def make(env_id: str, **options: Any) -> Any:
    """``jaxmarl.make``, with its ``HeuristicEnemySMAX`` on the core; other environments are jaxmarl's own."""
    if env_id == "HeuristicEnemySMAX":
        return HeuristicEnemySMAX(**options)
    return jaxmarl("registration").make(env_id, **options)
