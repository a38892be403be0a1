"""QPD: shares of a central Q along episodes, complete and by hand; its loss on a made-up batch."""

import jax
import jax.numpy as jnp
import numpy as np
from test_qmix import GAMMA, A, B, N, S, T, made_up

from seca_jax.algos import q_learning, qpd
from seca_jax.networks.mixers import ChannelCritic, channels

X, SIGHT = 6, 2
LENGTHS = np.array([3, 5, 1])


def path(seed=0):
    """[T, B, N, X] with anything, even nothing that is a number, after an episode's end; mask [T, B]."""
    x = np.random.default_rng(seed).normal(size=(T, B, N, X)).astype(np.float32)
    mask = np.arange(T)[:, None] < LENGTHS
    x[~mask] = np.nan
    return jnp.asarray(x), jnp.asarray(mask)


def critic(key, size=X):
    module = ChannelCritic(16)
    params = module.init(jax.random.key(key), jnp.zeros((1, N, size)))
    params = jax.tree.map(lambda p: p + 0.3 * jax.random.normal(jax.random.key(p.size), p.shape), params)
    return params, lambda x: module.apply(params, x)


def test_shares_add_up_to_the_central_value():
    x, mask = path()
    _, evaluate = critic(1)
    share = np.asarray(jax.jit(lambda x: qpd.decomposition(evaluate, x, mask, 1000))(x))
    value = np.where(mask, evaluate(jnp.where(mask[..., None, None], x, 0.0)), 0.0)
    assert np.abs(value).mean() > 0.1
    np.testing.assert_allclose(share.sum(-1), value, atol=5e-3)
    assert np.abs(share - value[..., None] / N).mean() > 0.05  # and they are no equal parts


def test_shares_are_of_the_own_episode_where_several_are_in_a_row():
    x, mask = path(5)
    _, evaluate = critic(6)
    whole = np.asarray(qpd.decomposition(evaluate, x, mask, 3))
    gap = np.zeros_like(x[:1])  # the moment after an episode's last step
    row = np.concatenate([x, gap, x])
    masks = np.concatenate([mask, gap[..., 0, 0] > 0, mask])
    share = np.asarray(qpd.decomposition(evaluate, jnp.asarray(row), jnp.asarray(masks), 3))
    np.testing.assert_allclose(share[: len(x)], whole, atol=1e-6)
    np.testing.assert_allclose(share[len(x) + 1 :], whole, atol=1e-6)


def test_nothing_is_worth_nothing():
    _, evaluate = critic(2)
    assert evaluate(jnp.zeros((N, X))) == 0.0


def test_shares_of_a_linear_value_are_its_terms():
    x, mask = path(1)
    weights = np.random.default_rng(2).normal(size=(N, X)).astype(np.float32)
    share = qpd.decomposition(lambda x: jnp.sum(x * weights, axis=(-2, -1)), x, mask, 1)
    terms = np.where(mask[..., None], np.nansum(np.asarray(x) * weights, axis=-1), 0.0)
    np.testing.assert_allclose(share, terms, atol=1e-5)


def test_shares_of_a_product_are_integrals_along_the_episode():
    """Q = a x_0 . b x_1: agent 0's share is the integral of (b x_1) d(a x_0) along the path, by hand."""
    x, mask = path(3)
    a, b = np.random.default_rng(4).normal(size=(2, X)).astype(np.float32)
    share = qpd.decomposition(lambda x: (x[..., 0, :] @ a) * (x[..., 1, :] @ b), x, mask, 4)
    for e in range(B):
        left, right = (np.append(np.asarray(x[: LENGTHS[e], e, i]) @ w, 0.0) for i, w in ((0, a), (1, b)))
        for t in range(LENGTHS[e]):
            hand = np.zeros(N)
            for s in range(t, LENGTHS[e]):
                # Both are straight on a segment: the mean of the one, times what the other moves
                hand[0] -= 0.5 * (right[s] + right[s + 1]) * (left[s + 1] - left[s])
                hand[1] -= 0.5 * (left[s] + left[s + 1]) * (right[s + 1] - right[s])
            np.testing.assert_allclose(share[t, e], hand, atol=1e-4)
    assert not np.asarray(share)[~np.asarray(mask)].any()


def test_the_loss_is_the_central_error_and_the_agents_from_their_shares():
    """The network is taken as it is; everything around it is done again in a loop."""
    batch, own, theirs, lengths, ended = made_up(4)
    obs = np.random.default_rng(5).normal(size=(T + 1, B, N, SIGHT)).astype(np.float32)
    batch = batch.replace(view=batch.view.replace(obs=jnp.asarray(obs)))
    size, points = S + SIGHT + A, 3
    (left, evaluate), (right, judge) = critic(6, size), critic(7, size)
    params, target = q_learning.Params({}, left), q_learning.Params({}, right)
    central = lambda params, x: ChannelCritic(16).apply(params, x)  # noqa: E731
    loss, metrics = qpd.path_loss(central, GAMMA, points, params, target, own, theirs, batch)

    def read(t, b, action):
        rows = [
            np.concatenate([batch.view.state[t, b], obs[t, b, n], np.eye(A)[action[n]]]) for n in range(N)
        ]
        return np.stack(rows).astype(np.float32)

    np.testing.assert_allclose(
        channels(batch.view.state[0], obs[0], jax.nn.one_hot(batch.action[0], A))[1],
        read(0, 1, np.asarray(batch.action[0, 1])),
    )
    slope = jax.jit(jax.grad(evaluate))
    td, agents = [], []
    for b in range(B):
        steps = [read(t, b, np.asarray(batch.action[t, b])) for t in range(lengths[b])]
        line = [*steps, np.zeros((N, size), np.float32)]
        segments = []
        for here, there in zip(line[:-1], line[1:]):
            at = [here + (k + 0.5) / points * (there - here) for k in range(points)]
            segments.append(np.mean([slope(p) for p in at], axis=0) * (there - here))
        for t in range(lengths[b]):
            y = float(batch.reward[t, b])
            if not (ended[b] and t == lengths[b] - 1):
                q = np.where(batch.view.avail[t + 1, b], own.q[t + 1, b], -np.inf)
                y += GAMMA * float(judge(read(t + 1, b, q.argmax(-1))))
            td.append(float(evaluate(steps[t])) - y)
            share = -np.sum(segments[t:], axis=(0, -1))
            utility = np.asarray(own.q[t, b])[np.arange(N), np.asarray(batch.action[t, b])]
            agents.extend(utility - share)
    np.testing.assert_allclose(metrics["critic_loss"], np.mean(np.square(td)), rtol=1e-3)
    np.testing.assert_allclose(metrics["agent_loss"], np.mean(np.square(agents)), rtol=1e-3)
    np.testing.assert_allclose(loss, metrics["critic_loss"] + metrics["agent_loss"], rtol=1e-5)


def test_shares_are_constants_for_the_gradient():
    batch, own, theirs, _, _ = made_up(6)
    obs = jnp.asarray(np.random.default_rng(7).normal(size=(T + 1, B, N, SIGHT)))
    batch = batch.replace(view=batch.view.replace(obs=obs))
    left, _ = critic(8, S + SIGHT + A)
    params = q_learning.Params({}, left)
    central = lambda params, x: ChannelCritic(16).apply(params, x)  # noqa: E731

    def of(name):
        def value(mixer):
            return qpd.path_loss(central, GAMMA, 2, q_learning.Params({}, mixer), params, own, theirs, batch)[
                1
            ][name]

        return jax.tree.leaves(jax.grad(value)(left))

    assert not any(g.any() for g in of("agent_loss")) and all(g.any() for g in of("critic_loss"))
