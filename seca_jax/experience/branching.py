"""Playing on from given states, many times, under common random numbers: where the truth comes from.

A state is a value, so the same moment can be lived through again with other actions. A *branch* of a
moment is one world: the actions that the agents would draw there, and every random number that comes
after. In a branch a *coalition* of agents plays the actions that were taken, the others play what they
draw, and everybody carries on with the policies to the episode's end. Coalitions of one branch differ in
nothing else, so that their difference is as free of noise as it can be; where those outside the smaller
one draw what was taken anyway, it is one battle, played once, and the difference is exactly 0.
"""

import dataclasses
import functools
from typing import Any, Callable, Iterator, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from seca_jax.arrays import select_rows
from seca_jax.credit.truth import Truth, coalitions, terms
from seca_jax.envs.base import Environment, take
from seca_jax.experience.moments import Moments
from seca_jax.types import Act, Carry

# Battles played side by side: enough to fill vector registers, few enough for a CPU's cache
SLOTS = {"cpu": 512}
SLOTS_ELSEWHERE = 2**14
STRIDE = 4  # steps between two looks for battles that have ended
ROUNDS = 32  # battles played in each place by one call, whose last ones leave places idle


@struct.dataclass
class Jobs:
    """``J`` battles to play."""

    moment: jax.Array  # [J] int32, where it starts
    branch: jax.Array  # [J] int32, number of the branch over all moments: its random numbers
    action: jax.Array  # [J, N] int32, what is done there


@struct.dataclass
class Outcomes:
    """What came of ``J`` battles."""

    returned: jax.Array  # [J] float32, discounted reward from the moment on, as the critic is told it
    truncated: jax.Array  # [J] bool, the time limit ended it
    steps: jax.Array  # [J] int32


@struct.dataclass
class Table:
    """Where battles are played side by side."""

    env: Any
    carry: Carry
    job: jax.Array  # [slots] int32, the number of jobs where nothing is played
    age: jax.Array  # [slots] int32, steps since the moment
    returned: jax.Array  # [slots]
    weight: jax.Array  # [slots], gamma^age
    ended: jax.Array  # [slots] bool
    truncated: jax.Array  # [slots] bool


class Branches(NamedTuple):
    """What came of every coalition in every branch.

    Attributes:
        returned: [M, R, C] float32.
        truncated: share of the battles that the time limit ended.
        battles: how many were played.
        steps: their environment steps.
    """

    returned: np.ndarray
    truncated: float
    battles: int
    steps: int


def act_apart(act: Act) -> Callable:
    """``act`` with a key for every environment: (params, carry, obs, avail, key [B]) -> (action, carry)."""

    def one(
        params: Any, carry: Carry, obs: jax.Array, avail: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, Carry]:
        carry, obs, avail = jax.tree.map(lambda x: x[None], (carry, obs, avail))
        return jax.tree.map(lambda x: x[0], act(params, carry, obs, avail, key, False))

    return jax.vmap(one, in_axes=(None, 0, 0, 0, 0))


@functools.lru_cache(maxsize=16)
def drawer(env: Environment, act: Act) -> Callable:
    """(params, moments, key, branches R) -> [M, R, N] int32, what the agents draw at the moments."""

    @functools.partial(jax.jit, static_argnums=3)
    def draw(params: Any, moments: Moments, key: jax.Array, branches: int) -> jax.Array:
        view = env.view(moments.env)

        def once(key: jax.Array) -> jax.Array:
            return act(params, moments.carry, view.obs, view.avail, key, False)[0]

        return jnp.swapaxes(jax.lax.map(once, jax.random.split(key, branches)), 0, 1)

    return draw


@functools.lru_cache(maxsize=16)
def player(env: Environment, act: Act, gamma: float, slots: int) -> Callable:
    """(params, moments, jobs, count, key) -> outcomes of the first ``count`` of the jobs.

    Battles are played in ``slots`` places side by side; one that has ended makes room for the next job.
    A battle's random numbers depend on the key and its branch alone, not on where or when it is played.
    """
    decide = act_apart(act)

    def play(params: Any, moments: Moments, jobs: Jobs, count: jax.Array, key: jax.Array) -> Outcomes:
        number = jobs.moment.shape[0]

        def look_up(x: jax.Array, job: jax.Array) -> jax.Array:
            return x[jnp.minimum(job, number - 1)]

        def deal(table: Table, following: jax.Array) -> tuple[Table, jax.Array]:
            """The next jobs to whoever is free."""
            free = table.ended
            turn = following + jnp.cumsum(free) - 1
            job = jnp.where(free, jnp.where(turn < count, turn, number), table.job)
            moment = look_up(jobs.moment, job)
            fresh = jax.tree.map(lambda x: x[moment], moments.carry)

            return Table(
                env=env.select(free, take(env, moments.env, moment), table.env),
                carry=select_rows(free, fresh, table.carry),
                job=job,
                age=jnp.where(free, 0, table.age),
                returned=jnp.where(free, 0.0, table.returned),
                weight=jnp.where(free, 1.0, table.weight),
                ended=free & (job == number),
                truncated=table.truncated & ~free,
            ), jnp.minimum(following + jnp.sum(free), count)

        def step(table: Table, _: None) -> tuple[Table, None]:
            branch = jax.vmap(jax.random.fold_in, (None, 0))(key, look_up(jobs.branch, table.job))
            keys = jax.vmap(lambda own, age: jax.random.split(jax.random.fold_in(own, age)))(
                branch, table.age
            )
            view = env.view(table.env)
            drawn, carry = decide(params, table.carry, view.obs, view.avail, keys[:, 0])
            first = (table.age == 0)[:, None]
            action = jnp.where(first, look_up(jobs.action, table.job), drawn)
            after, outcome = env.step(keys[:, 1], table.env, action)
            running = ~table.ended
            return Table(
                env=after,
                carry=carry.replace(last_action=action),
                job=table.job,
                age=table.age + running,
                returned=table.returned + jnp.where(running, table.weight * outcome.reward, 0.0),
                weight=table.weight * gamma,
                ended=table.ended | outcome.terminated | outcome.truncated,
                truncated=jnp.where(running, outcome.truncated, table.truncated),
            ), None

        def unfinished(loop: tuple[Table, jax.Array, Outcomes]) -> jax.Array:
            table, following, _ = loop
            return (following < count) | jnp.any(table.job < number)

        def advance(loop: tuple[Table, jax.Array, Outcomes]) -> tuple[Table, jax.Array, Outcomes]:
            table, following, out = loop
            table, following = deal(table, following)
            table, _ = jax.lax.scan(step, table, length=STRIDE)
            # Outcomes of idle places fall off the end
            at = jnp.where(table.ended, table.job, number)
            out = Outcomes(
                returned=out.returned.at[at].set(table.returned, mode="drop"),
                truncated=out.truncated.at[at].set(table.truncated, mode="drop"),
                steps=out.steps.at[at].set(table.age, mode="drop"),
            )
            table = dataclasses.replace(table, job=jnp.where(table.ended, number, table.job))
            return table, following, out

        nobody = jnp.zeros(slots, jnp.int32)
        table = Table(
            env=take(env, moments.env, nobody),
            carry=jax.tree.map(lambda x: x[nobody], moments.carry),
            job=nobody + number,
            age=nobody,
            returned=jnp.zeros(slots),
            weight=jnp.ones(slots),
            ended=jnp.ones(slots, bool),
            truncated=jnp.zeros(slots, bool),
        )
        out = Outcomes(jnp.zeros(number), jnp.zeros(number, bool), jnp.zeros(number, jnp.int32))
        return jax.lax.while_loop(unfinished, advance, (table, jnp.zeros((), jnp.int32), out))[2]

    return jax.jit(play)


class Plan(NamedTuple):
    """Which battles tell all coalitions of all branches apart, in the order in which they are played.

    Attributes:
        moment: [J] int32.
        branch: [J] int32.
        taken: [J] int64, bit a set where agent a plays what it took; agents who drew the same have 0.
        battle: [M, R, C] int32, the battle of each coalition.
    """

    moment: np.ndarray
    branch: np.ndarray
    taken: np.ndarray
    battle: np.ndarray


def plan(action: np.ndarray, drawn: np.ndarray, masks: np.ndarray) -> Plan:
    """The battles to play: one for all coalitions of a branch that come down to one joint action.

    Args:
        action: [M, N], what was taken.
        drawn: [M, R, N], what the agents drew.
        masks: [M, C] int64, the coalitions: bit a set where agent a plays what it took.
    """
    moments, branches, num_agents = drawn.shape
    differs = ((drawn != action[:, None]).astype(np.int64) << np.arange(num_agents)).sum(-1)  # [M, R]
    taken = masks[:, None] & differs[..., None]  # [M, R, C]
    branch = np.arange(moments * branches).reshape(moments, branches, 1)
    found, battle = np.unique((branch << num_agents) | taken, return_inverse=True)
    branch, taken_bits = found >> num_agents, found & ((1 << num_agents) - 1)
    return Plan(
        moment=(branch // branches).astype(np.int32),
        branch=branch.astype(np.int32),
        taken=taken_bits,
        battle=battle.reshape(taken.shape).astype(np.int32),
    )


def play_parts(
    env: Environment,
    act: Act,
    params: Any,
    moments: Moments,
    drawn: np.ndarray,
    plan: Plan,
    key: jax.Array,
    *,
    gamma: float,
    start: int = 0,
) -> Iterator[Outcomes]:
    """Plays the battles of a plan part by part, from part ``start`` on: NumPy outcomes of each."""
    slots, size = shape_of(len(plan.moment))
    play = player(env, act, gamma, slots)
    action = np.asarray(moments.action)
    branches, num_agents = drawn.shape[1:]
    for begin in range(start * size, len(plan.moment), size):
        own = slice(begin, begin + size)
        moment, branch = plan.moment[own], plan.branch[own]
        bits = (plan.taken[own, None] >> np.arange(num_agents)) & 1
        joint = np.where(bits, action[moment], drawn[moment, branch % branches])
        count = len(moment)
        room = ((0, size - count),)  # one shape, compiled once
        padded = np.pad(moment, room), np.pad(branch, room), np.pad(joint, (*room, (0, 0))).astype(np.int32)
        jobs = Jobs(*(jnp.asarray(x) for x in padded))
        outcomes = jax.device_get(play(params, moments, jobs, np.int32(count), key))
        yield jax.tree.map(lambda x: x[:count], outcomes)  # noqa: B023


def shape_of(battles: int) -> tuple[int, int]:
    """(places, battles of a part) for so many battles."""
    most = SLOTS.get(jax.default_backend(), SLOTS_ELSEWHERE)
    slots = min(most, 1 << max(battles - 1, 0).bit_length())
    return slots, slots * ROUNDS


def joined(plan: Plan, outcomes: list[Outcomes]) -> Branches:
    """The outcomes of a plan's parts, coalition by coalition."""
    returned, truncated, steps = (
        np.concatenate([getattr(part, name) for part in outcomes])
        for name in ("returned", "truncated", "steps")
    )
    return Branches(returned[plan.battle], float(truncated.mean()), len(returned), int(steps.sum()))


def branch_out(
    env: Environment,
    act: Act,
    params: Any,
    moments: Moments,
    masks: np.ndarray,
    key: jax.Array,
    branches: int,
    *,
    gamma: float,
) -> Branches:
    """What came of every coalition in every branch of every moment.

    Time limits are the end: what would have come after is nobody's to know.

    Args:
        env: the environment.
        act: the learner's, ``(params, carry, obs, avail, key, greedy)``.
        params: of one seed.
        moments: M of them.
        masks: [M, C] int64, the coalitions: bit a set where agent a plays what it took.
        key: of all random numbers.
        branches: R, for each moment.
        gamma: discount.
    """
    draw_key, play_key = jax.random.split(key)
    drawn = np.asarray(drawer(env, act)(params, moments, draw_key, branches))
    todo = plan(np.asarray(moments.action), drawn, masks)
    return joined(todo, list(play_parts(env, act, params, moments, drawn, todo, play_key, gamma=gamma)))


def truth(
    env: Environment,
    act: Act,
    params: Any,
    states: Any,
    carry: Carry,
    action: jax.Array,
    order: np.ndarray | dict[str, np.ndarray],
    key: jax.Array,
    branches: int,
    *,
    gamma: float,
) -> Truth:
    """What each agent's action was really worth at given states: unbiased estimates with their errors.

    Args:
        env: the environment.
        act: the learner's, ``(params, carry, obs, avail, key, greedy)``; it is asked to sample.
        params: of one seed.
        states: M states of the environment.
        carry: [M, N, ...], what the agents remember there.
        action: [M, N] int32, what they did.
        order: [M, N] agent indices, first assessed first; or several by name. One alone is named "".
        key: of all random numbers.
        branches: R, worlds that each state is continued in.
        gamma: discount.
    """
    orders = order if isinstance(order, dict) else {"": np.asarray(order)}
    moments = Moments(states, carry, action)
    played = branch_out(env, act, params, moments, coalitions(orders), key, branches, gamma=gamma)
    return terms(played.returned, orders)
