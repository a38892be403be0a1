"""Critics as the on-policy learners see them, and how they are fitted to TD(lambda) targets."""

from functools import partial
from typing import Any, Callable, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from seca_jax.algos.minibatches import descend, passes
from seca_jax.arrays import alongside, cut, in_chunks, num_chunks
from seca_jax.config.schema import Config, CriticConfig
from seca_jax.envs.base import Environment
from seca_jax.experience.batch import Rollout, next_value
from seca_jax.experience.returns import td_lambda
from seca_jax.networks.critic import Dueling, DuelingHead, Multilinear, make_hypernetwork
from seca_jax.types import View

# Numbers of all agents' views of a step, from which on a pass takes one of several steps: their first layer
# is most of what an update costs then, and as many views have as much to say of fewer steps. 27m_vs_30m has
# 19,926, MMM2 3,270; experiments/speed.md has what it spares.
LONG_VIEWS = 8192


class Targets(NamedTuple):
    """What a critic is fitted to; leaves [T, B], or [T, B, N] where it has a value for every agent."""

    values: jax.Array  # TD(lambda), Eq. 10
    outcome: jax.Array  # the same with the lambda of what agents are judged by: no fit, see settle
    surprise: jax.Array | None = None  # what came of a step less V(s) of its state; dueling critics
    before: jax.Array | None = None  # the value of the step's own state that the targets bootstrapped with


class Critic(NamedTuple):
    """A critic as functions. One value a state (f_phi) or one for every agent (COMA's) is its choice.

    Attributes:
        init: ``key -> parameters``.
        inputs: ``(View, last action [..., B, N]) -> the critic's inputs``, leaves [..., B, ...]: the
            state for f_phi.
        apply: ``(parameters, inputs [...]) -> f``, the critic at these states: ``v [..., N, A] ->
            value [...]`` or ``[..., N]``. What it computes from the inputs alone, the hypernetwork's
            output, is shared by all v.
        value: ``(f, v) -> [...]`` or ``[..., N]``, what targets bootstrap from where v is done: f(v), or
            V(s) of a critic that has one.
        errors: ``(f, policy, action, Targets) -> [...]`` or ``[..., N]``, squared errors.
        credit_errors: of what learns beside it, from surprises and under the policies; None: nothing.
        stride: how many steps of a batch all errors take one of.
        credit_stride: how many of those steps ``credit_errors`` take one of.
        surprise_lam: lambda of the surprises that it is fitted to, None where there are none.
        floats: size of what ``apply`` computes for one row of a batch.
        fit_floats: of what ``errors`` and ``value`` compute for it; None: the same.
    """

    init: Callable[[jax.Array], Any]
    inputs: Callable[[View, jax.Array], Any]
    apply: Callable[[Any, Any], Callable[..., jax.Array]]
    floats: int
    value: Callable[[Any, jax.Array], jax.Array] = lambda f, v: f(v)
    errors: Callable[[Any, jax.Array | None, jax.Array, Targets], jax.Array] = (
        lambda f, policy, action, targets: jnp.square(f(action) - targets.values)
    )
    credit_errors: Callable[[Any, jax.Array, jax.Array, Targets], jax.Array] | None = None
    stride: int = 1
    credit_stride: int = 1
    surprise_lam: float | None = None
    fit_floats: int | None = None

    def chunks(self, mask: jax.Array, fit: bool = False) -> int:
        """In how many chunks to work on a batch whose mask is [T, B]; ``fit``: by errors and value alone."""
        floats = self.fit_floats if fit and self.fit_floats else self.floats
        return num_chunks(mask.shape[0], mask.shape[1] * floats)


def team_critic(config: Config, env: Environment) -> Critic:
    """The critic that ``critic.kind`` names; SeCA, COMA-newArchi and LICA have one of them."""
    kinds = {"joint": joint, "dueling": dueling, "multilinear": multilinear}
    critic = kinds[config.critic.kind](config, env)
    return critic._replace(stride=config.critic.stride or critic.stride)


def apart(network: nn.Module, config: Config, env: Environment) -> Critic:
    """f(s; v) = V(s) + c(s; v), ours: V learns from outcomes, c from what the next steps surprise V by.

    A battle's outcome is mostly chance, what one step changes is not: c, and with it all credit, learns
    from targets that have less of the noise:

        c(s_t; u_t) - c(s_t; pi_t)  <-  sum_l (gamma lambda_c)^l delta_{t+l},
        delta_t = r_t + gamma (1 - terminated_t) V(s_{t+1}) - V(s_t)

    with the target network's V and ``critic.surprise_lam`` for lambda_c, and c(s; pi) <- 0 keeps f(s; pi) at
    V(s).
    """

    def errors(f: DuelingHead, policy: Any, action: jax.Array, targets: Targets) -> jax.Array:
        return jnp.mean(jnp.square(f.values - targets.values[..., None]), axis=-1)

    def credit_errors(f: DuelingHead, policy: jax.Array, action: jax.Array, targets: Targets) -> jax.Array:
        assert targets.surprise is not None
        expected, changed = f.advantage.once(policy), f.advantage.once(action)
        return jnp.square(changed - expected - targets.surprise) + jnp.square(expected)

    return of_state(network, config, env)._replace(
        value=lambda f, v: f.value,
        errors=errors,
        credit_errors=credit_errors,
        credit_stride=config.critic.credit_stride,
        surprise_lam=config.critic.surprise_lam,
    )


def dueling(config: Config, env: Environment) -> Critic:
    """V of the state, and the paper's hypernetwork critic as c, see :func:`apart`.

    c is not linear in v: c(s; u) - c(s; pi) need not average to 0 over the policies' actions, and where V
    errs part of that is learned, which has nothing to do with anybody's action.
    """
    # Zero weights at its end: no credit at first rather than a random one
    options = {"output_init": nn.initializers.zeros}
    hypernetwork = make_hypernetwork(config.critic, env.num_agents, env.num_actions, **options)
    return apart(Dueling(hypernetwork, config.critic.value_hidden), config, env)._replace(
        fit_floats=2 * hypernetwork.hypernet_hidden * hypernetwork.mixing
    )


def multilinear(config: Config, env: Environment) -> Critic:
    """V and c of every agent's view, c linear in each row of v, see :func:`apart`.

    f(s; pi) is then the expectation of f(s; u), so that Eq. 9 is Eq. 7 exactly, and c(s; u) - c(s; pi) has
    mean 0 under the policies whatever its parameters: what V misses cannot pass for an action's doing.
    """
    n, width, pairs = env.num_agents, config.critic.value_hidden, config.critic.pairs
    network = Multilinear(env.num_actions, width, pairs)

    def init(key: jax.Array) -> Any:
        return network.init(key, jnp.zeros((1, env.state_size)), jnp.zeros((1, n, env.obs_size)))

    def apply(params: Any, inputs: tuple) -> DuelingHead:
        head: Any = network.apply(params, *inputs)
        return head

    return apart(network, config, env)._replace(
        init=init,
        inputs=lambda view, last_action: (view.state, view.obs),
        apply=apply,
        floats=n * (4 * width + env.num_actions * (1 + pairs)),
        fit_floats=None,
        stride=-(-n * env.obs_size // LONG_VIEWS),
    )


def joint(config: Config, env: Environment) -> Critic:
    """SeCA's critic f_phi(s; v) of Figure 3(a)."""
    network = make_hypernetwork(config.critic, env.num_agents, env.num_actions)
    return of_state(network, config, env)._replace(
        value=lambda f, v: f.once(v),
        errors=lambda f, policy, action, targets: jnp.square(f.once(action) - targets.values),
        fit_floats=network.hypernet_hidden * network.mixing,
    )


def of_state(network: nn.Module, config: Config, env: Environment) -> Critic:
    """The critic that a network of the state alone makes, as large as a hypernetwork's output."""
    apply: Any = network.apply
    return Critic(
        init=lambda key: network.init(key, jnp.zeros((1, env.state_size))),
        inputs=lambda view, last_action: view.state,
        apply=apply,
        floats=env.num_agents * env.num_actions * config.critic.mixing,
    )


def targets(
    critic: Critic,
    params: Any,
    rollout: Rollout,
    action: jax.Array,
    tail_policy: jax.Array,
    *,
    gamma: float,
    lam: float,
    outcome_lam: float | None = None,
) -> Targets:
    """TD(lambda) targets of a batch, Eq. 10.

    Args:
        critic: the critic.
        params: its target parameters.
        rollout: the batch.
        action: [T, B, N, A], one-hot.
        tail_policy: [1 + slots, B, N, A], policies where the batch ends or the time limit struck. No
            action is taken there, so the bootstrap is the critic's value of the policies.
        gamma: discount, may be traced.
        lam: lambda, may be traced.
        outcome_lam: lambda of ``Targets.outcome``; None: lam.

    """
    inputs = critic.inputs(rollout.view, rollout.last_action())
    value = in_chunks(
        lambda part: critic.value(critic.apply(params, part[0]), part[1]),
        (inputs, action),
        critic.chunks(rollout.mask, fit=True),
    )
    tail_inputs = critic.inputs(rollout.tail, rollout.tail_carry.last_action)
    tail_value = critic.value(critic.apply(params, tail_inputs), tail_policy)
    following = next_value(rollout, value, tail_value)

    def returns(lam: float) -> jax.Array:
        ends = rollout.terminated, rollout.truncated
        return td_lambda(rollout.reward, *ends, following, gamma=gamma, lam=lam)

    values = returns(lam)
    outcome = values if outcome_lam is None else returns(outcome_lam)
    surprise = None if critic.surprise_lam is None else returns(critic.surprise_lam) - value
    return Targets(values, outcome, surprise, value)


def thinned(part: tuple, stride: int, offset: jax.Array) -> tuple:
    """Every so-manyth step of a part (..., mask [T, B]) whose leaves are [T, B, ...], from ``offset`` on.

    Steps and not environments, which several devices may share; what does not divide evenly is filled up with
    steps that the mask leaves out.
    """
    if stride == 1:
        return part
    length = len(part[-1])
    at = offset % stride + stride * jnp.arange(-(-length // stride))
    *rest, mask = jax.tree.map(lambda x: jnp.take(x, jnp.minimum(at, length - 1), axis=0), part)
    return *rest, mask & (at < length)[:, None]


def fit(
    config: CriticConfig,
    critic: Critic,
    tx: optax.GradientTransformation,
    learned: tuple,
    batch: tuple,
    lr: Any,
    key: jax.Array,
) -> tuple[tuple, dict[str, jax.Array]]:
    """The critic's squared errors on taken actions, L(phi) of Section 3.3, minibatch by minibatch.

    Args:
        config: ``updates``, ``minibatches`` and ``target_interval`` matter.
        critic: the critic.
        tx: of :func:`seca_jax.algos.minibatches.optimiser`.
        learned: (parameters, target parameters, optimiser state, critic updates so far).
        batch: (the critic's inputs, policies [T, B, N, A] or None where it learns from actions alone,
            one-hot action [T, B, N, A], :class:`Targets`, mask [T, B]).
        lr: learning rate, may be traced.
        key: for the minibatches.

    Returns:
        ``learned``, metrics.
    """

    def error(errors: Callable, params: Any, chunk: tuple) -> jax.Array:
        inputs, policy, action, goal, mask = chunk
        found = errors(critic.apply(params, inputs), policy, action, goal)
        return jnp.sum(jnp.where(alongside(mask, found), found, 0.0))

    def mean(errors: Callable, params: Any, part: tuple) -> tuple[jax.Array, Any]:
        """Mean error over a part, and its gradient."""

        def add(total: tuple, chunk: tuple) -> tuple[tuple, None]:
            found = jax.value_and_grad(partial(error, errors))(params, chunk)
            return jax.tree.map(jnp.add, total, found), None

        *_, goal, mask = part
        nothing = jnp.zeros(()), jax.tree.map(jnp.zeros_like, params)
        total, _ = jax.lax.scan(add, nothing, cut(part, critic.chunks(mask, fit=True)))
        counted = jnp.sum(mask) * (goal.values.size // mask.size)
        return jax.tree.map(lambda x: x / jnp.maximum(counted, 1), total)

    def update(learned: tuple, part: tuple) -> tuple[tuple, tuple]:
        params, target, opt, count = learned
        part = thinned(part, critic.stride, count)
        loss, gradient = mean(critic.errors, params, part)
        if critic.credit_errors is not None:
            few = thinned(part, critic.credit_stride, count)
            found = mean(critic.credit_errors, params, few)
            loss, gradient = jax.tree.map(jnp.add, (loss, gradient), found)
        params, opt = descend(tx, gradient, opt, params, lr)
        count = count + 1
        copy = count % config.target_interval == 0
        target = jax.tree.map(lambda p, t: jnp.where(copy, p, t), params, target)
        return (params, target, opt, count), (loss, optax.tree.norm(gradient))

    learned, (loss, norm) = passes(update, learned, batch, key, config.updates, config.minibatches)
    return learned, {"critic_loss": jnp.mean(loss[0]), "critic_grad_norm": jnp.mean(norm)}
