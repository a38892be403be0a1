"""What a trained learner's critic claims about given moments: every advantage it could hand out there.

Each learner's critic is put in the form of the paper's f(s; v), v [N, A] of one-hot actions or policies:

=============================  ==================================================================
seca, coma_newarchi, lica      the hypernetwork critic itself
coma                           one value for every agent: its own Q, expected over its row of v
sqddpg                         the same of its Shapley Q-value, coalitions drawn once
mappo, ippo                    V, whatever v is: all agents' terms are 0, the residual is all they have
qmix, vdn, pqn_vdn             the mix of the agents' Q, each expected over its row of v
qplex                          the same, and the weights of their advantages read v as it is
qtran, qpd                     the joint Q, which reads v as it is
=============================  ==================================================================

so that all can be asked for the same terms, whichever of them the learner itself uses. A learner that
another package brings says itself what its critic claims, see :func:`on_policy`.
"""

from typing import Any, Callable, NamedTuple

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from seca_jax import extensions
from seca_jax.algos import coma, ippo, mappo, pqn_vdn, qmix, qpd, qplex, qtran, seca, sqddpg, vdn
from seca_jax.algos.critic import Critic, targets, team_critic
from seca_jax.algos.policy import logits_of, make_agent
from seca_jax.config import learners
from seca_jax.config.errors import ConfigError
from seca_jax.config.schema import Config
from seca_jax.credit import order
from seca_jax.credit.advantage import prefixes, ranks
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout
from seca_jax.networks.agent import Network, Separate, agent_input, apply
from seca_jax.networks.mixers import best_actions, channels, value_of
from seca_jax.types import Carry, View

VALUE_BASED = ("qmix", "vdn", "qtran", "qplex", "qpd", "pqn_vdn")
SCORES = 2**26  # floats of gradients held at once


class Opinion(NamedTuple):
    """A learner's policies and its critic, as functions.

    Attributes:
        policy: ``(params, carry, view) -> [..., N, A]``, what the agents draw from.
        inputs: ``(params, rollout) -> the critic's inputs``, leaves [T, B, ...].
        critic: ``(params, inputs) -> (v [..., N, A] -> [...] or [..., N])``.
        targets: ``(params, rollout) -> [T, B] or [T, B, N]``, TD(lambda) with that critic itself, for want
            of the target's parameters; None where the learner has none.
        along_path: the critic has one value for the team, of the state and at most what agents see of it, so
            that contributions (Eq. 14) exist.
        actor: the network of ``params.actor``, whose gradients are measured; None where the learner ascends
            no policy gradient.
    """

    policy: Callable[[Any, Carry, View], jax.Array]
    inputs: Callable[[Any, Rollout], Any]
    critic: Callable[[Any, Any], Callable[[jax.Array], Any]]
    targets: Callable[[Any, Rollout], jax.Array] | None
    along_path: bool
    actor: Network | None = None


def _on_policy(config: Config, env: Environment) -> Opinion:
    own = {
        "coma": lambda config, env: coma.critic_of(env),
        "sqddpg": lambda config, env: sqddpg.critic_of(config, env, jax.random.key(0)),
        "mappo": mappo.critic_of,
        "ippo": ippo.critic_of,
    }
    critic = own.get(config.algo, team_critic)(config, env)
    return on_policy(config, env, critic, along_path=config.algo not in own)


def on_policy(config: Config, env: Environment, critic: Critic, *, along_path: bool) -> Opinion:
    """What a learner thinks that is made of the phases of :mod:`seca_jax.algos.actor_critic` and ``critic``.

    Args:
        config: the run's.
        env: the environment.
        critic: the learner's.
        along_path: it has one value, see :class:`Opinion`.
    """
    agent = make_agent(config, env)

    def policy(params: Any, carry: Carry, view: View) -> jax.Array:
        logits, _ = logits_of(agent, params.actor, carry, view.obs, view.avail)
        return jax.nn.softmax(logits)

    def y(params: Any, rollout: Rollout) -> jax.Array:
        action = jax.nn.one_hot(rollout.action, env.num_actions)
        tail = policy(params, rollout.tail_carry, rollout.tail)
        discounts = {"gamma": config.gamma, "lam": config.lam}
        return targets(critic, params.critic, rollout, action, tail, **discounts).values

    return Opinion(
        policy=policy,
        inputs=lambda params, rollout: critic.inputs(rollout.view, rollout.last_action()),
        critic=lambda params, inputs: critic.apply(params.critic, inputs),
        targets=y,
        along_path=along_path,
        actor=agent,
    )


def _value_based(config: Config, env: Environment) -> Opinion:
    agent = (pqn_vdn.agent_of if config.algo == "pqn_vdn" else make_agent)(config, env)
    mixers = {
        "qmix": qmix.mixer_of,
        "qtran": qtran.mixer_of,
        "qplex": qplex.mixer_of,
        "qpd": qpd.critic_of,
    }
    mix: Callable[..., Any] = vdn.total
    if config.algo in mixers:
        mix = mixers[config.algo](config, env).apply

    def look(params: Any, carry: Carry, view: View, avail: Any) -> Any:
        x = agent_input(view.obs, carry.last_action, env.num_actions)
        return apply(agent, params.agent, carry.hidden, x, avail)

    def policy(params: Any, carry: Carry, view: View) -> jax.Array:
        _, q = look(params, carry, view, view.avail)
        greedy = jax.nn.one_hot(jnp.argmax(q, axis=-1), env.num_actions)
        anything = view.avail / jnp.sum(view.avail, axis=-1, keepdims=True)
        return greedy + config.q.epsilon_final * (anything - greedy)

    def inputs(params: Any, rollout: Rollout) -> tuple[jax.Array, jax.Array, View]:
        return *look(params, rollout.extra, rollout.view, True), rollout.view

    def critic(params: Any, inputs: Any) -> Callable[[jax.Array], Any]:
        hidden, q, view = inputs
        state = view.state

        def f(v: jax.Array) -> jax.Array:
            if config.algo == "qtran":
                return mix(params.mixer, hidden, v, state)
            if config.algo == "qpd":
                return mix(params.mixer, channels(state, view.obs, v))
            expected = jnp.sum(v * q, axis=-1)
            if config.algo == "qplex":
                best = value_of(q, best_actions(q, view.avail))
                return mix(params.mixer, expected, best, v, state)
            return mix(params.mixer, expected, state)

        return f

    return Opinion(policy, inputs, critic, targets=None, along_path=False)


def opinion(config: Config, env: Environment) -> Opinion:
    """What the learner of a run thinks, as functions of its parameters.

    Raises:
        ConfigError: another package brings the learner and does not say.
    """
    if config.algo not in learners.own():
        told = extensions.load("learner", config.algo).opinion
        if told is None:
            where = extensions.origin("learner", config.algo)
            raise ConfigError(
                f"algo={config.algo}: {where} has no opinion(config, env), which an audit needs to ask it"
            )
        return told(config, env)
    return (_value_based if config.algo in VALUE_BASED else _on_policy)(config, env)


def orders(
    config: Config, view: Opinion, params: Any, rollout: Rollout, wanted: list[str], key: jax.Array
) -> dict[str, jax.Array]:
    """Who is assessed first at every step of whole episodes, by the name of the order.

    Args:
        config: ``credit.points`` and ``credit.path`` matter.
        view: the learner's opinion.
        params: of one seed.
        rollout: of :func:`seca_jax.experience.moments.live`.
        wanted: names of :mod:`seca_jax.credit.names`.
        key: of the random order.

    Returns:
        [T, B, N] agent indices each.

    Raises:
        ConfigError: an order goes by contributions, which the learner's critic cannot tell.
    """
    policy = view.policy(params, rollout.extra, rollout.view)
    action = jax.nn.one_hot(rollout.action, policy.shape[-1])

    def contribution(length: int | None) -> jax.Array:
        if not view.along_path:
            raise ConfigError(f"contributions need one critic of the team, and {config.algo}'s is not")

        def evaluate(inputs: Any, v: jax.Array) -> jax.Array:
            return view.critic(params, inputs)(v)

        inputs, steps = view.inputs(params, rollout), rollout.mask.shape[0]
        return seca.contributions(config.credit, evaluate, policy, inputs, rollout, length, chunks=steps)

    found = {}
    for name in wanted:
        if name == "random":
            found[name] = order.at_random(key, rollout.action.shape)
            continue
        found[name] = order.named(name, policy, action, contribution)
    return found


class Claims(NamedTuple):
    """What a critic claims at ``M`` moments.

    Attributes:
        terms: [M, N] by (advantage, order): sequential under every order; coma, marginal and joint with
            the order "".
        residual: [M, N], y - f(s; u); None where the learner has no targets.
        policy: [M, N, A].
    """

    terms: dict[tuple[str, str], np.ndarray]
    residual: np.ndarray | None
    policy: np.ndarray


def terms(
    f: Callable[[jax.Array], jax.Array],
    policy: jax.Array,
    action: jax.Array,
    turns: dict[str, jax.Array],
) -> dict[tuple[str, str], jax.Array]:
    """Every advantage of f at fixed states.

    Args:
        f: v [..., N, A] -> [...], or [..., N] where each agent has a value of its own; an agent's
            advantage is then a difference of its own values.
        policy: [..., N, A].
        action: [..., N, A], one-hot.
        turns: orders [..., N] by name.

    Returns:
        [..., N] by (advantage, order).
    """
    num_agents = policy.shape[-2]
    agents = jnp.arange(num_agents)

    def values(v: jax.Array) -> jax.Array:  # [..., N], one for every agent
        value = f(v)
        return value if value.ndim == policy.ndim - 1 else jnp.repeat(value[..., None], num_agents, axis=-1)

    def with_own(row: jax.Array, others: jax.Array) -> jax.Array:
        """Agent a's value of ``others`` with row a of ``row``."""

        def one(a: jax.Array) -> jax.Array:
            return jnp.take(values(jnp.where((agents == a)[:, None], row, others)), a, axis=-1)

        return jnp.moveaxis(jax.lax.map(one, agents), 0, -1)

    full, nobody = values(action), values(policy)
    found = {
        ("coma", ""): full - with_own(policy, action),
        ("marginal", ""): with_own(action, policy) - nobody,
        ("joint", ""): full - nobody,
    }
    for name, turn in turns.items():
        steps = jnp.diff(jax.lax.map(values, prefixes(policy, action, turn)), axis=0)  # [N, ..., N]
        place = ranks(turn)[None]
        found["sequential", name] = jnp.take_along_axis(steps, place, axis=0)[0]
    return found


def claims(
    view: Opinion, params: Any, rollout: Rollout, turns: dict[str, jax.Array], t: np.ndarray, b: np.ndarray
) -> Claims:
    """What the critic claims at steps ``t`` of environments ``b`` [M].

    Args:
        view: the learner's opinion.
        params: of one seed.
        rollout: of :func:`seca_jax.experience.moments.live`.
        turns: of :func:`orders`.
        t, b: [M] indices.
    """

    def here(tree: Any) -> Any:
        return jax.tree.map(lambda x: x[t, b], tree)

    policy = here(view.policy(params, rollout.extra, rollout.view))
    action = jax.nn.one_hot(rollout.action[t, b], policy.shape[-1])
    f = view.critic(params, here(view.inputs(params, rollout)))
    found = terms(f, policy, action, here(turns))
    residual = None
    if view.targets is not None:
        value, y = f(action), here(view.targets(params, rollout))
        # Shapley Q-values are shares of one value, which the targets are for
        residual = y - (value if value.ndim == y.ndim else jnp.sum(value, axis=-1))
        if residual.ndim == 1:
            residual = jnp.repeat(residual[:, None], policy.shape[1], axis=1)
    said: Any = (found, residual, policy)
    return Claims(*jax.device_get(said))


def score_products(
    view: Opinion, env: Environment, params: Any, rollout: Rollout, t: np.ndarray, b: np.ndarray
) -> np.ndarray | None:
    """Products of the gradients of log pi(u) of all agents at steps ``t`` of environments ``b`` [M].

    With respect to the actor's parameters; what the agents remember is taken as given.

    Returns:
        [M N, M N]; None where the learner ascends no policy gradient.
    """
    agent = view.actor
    if agent is None:
        return None
    carry = rollout.extra
    x = agent_input(rollout.view.obs[t, b], carry.last_action[t, b], env.num_actions)
    rows = carry.hidden[t, b], x, rollout.view.avail[t, b], rollout.action[t, b]
    rows = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rows)

    @jax.jit
    def scores(actor: Any, rows: Any) -> jax.Array:  # [rows, parameters]
        def one(hidden: jax.Array, x: jax.Array, avail: jax.Array, action: jax.Array) -> jax.Array:
            def log_prob(actor: Any) -> jax.Array:
                network = agent
                if isinstance(agent, Separate):  # that agent's alone, whose number is the input's last part
                    number = jnp.argmax(x[-env.num_agents :])
                    network, actor = agent.agent, jax.tree.map(lambda leaf: leaf[number], actor)
                _, logits = apply(network, actor, hidden, x, avail)
                return jax.nn.log_softmax(logits)[action]

            return jax.flatten_util.ravel_pytree(jax.grad(log_prob)(actor))[0]

        return jax.vmap(one)(*rows)

    number, size = len(rows[-1]), sum(leaf.size for leaf in jax.tree.leaves(params.actor))
    step = max(1, SCORES // size)
    cuts = [slice(i, i + step) for i in range(0, number, step)]
    products = np.zeros((number, number), np.float32)
    for i, left in enumerate(cuts):
        own = scores(params.actor, jax.tree.map(lambda leaf: leaf[left], rows))  # noqa: B023
        for right in cuts[i:]:
            other = own if right is left else scores(params.actor, jax.tree.map(lambda x: x[right], rows))  # noqa: B023
            products[left, right] = own @ other.T
            products[right, left] = products[left, right].T
    return products
