"""The meter of credit, where the truth is known: all joint actions of uniform policies, each as likely."""

import itertools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import seca_jax
from seca_jax.algos import coma_newarchi, seca
from seca_jax.algos.actor_critic import UnderCritic
from seca_jax.algos.critic import Critic
from seca_jax.algos.meter import METERED, credit_meter
from seca_jax.algos.seca import MEMORY, Slope, calibrated
from seca_jax.config.schema import CreditConfig

AGENTS, ACTIONS = 3, 2
JOINT = np.array(list(itertools.product(range(ACTIONS), repeat=AGENTS)))  # a step each
Q = np.random.default_rng(0).normal(size=(ACTIONS,) * AGENTS)
ENVS = 2000 * METERED  # the other actions are drawn
KEY = jax.random.key(0)


def batch_of(scale, mask=None):
    """(every joint action in every environment, before a critic that is ``scale`` times the truth; y)."""
    action = jnp.broadcast_to(jnp.eye(ACTIONS)[JOINT][:, None], (len(JOINT), ENVS, AGENTS, ACTIONS))
    mask = jnp.ones(action.shape[:2], bool) if mask is None else mask

    def apply(params, inputs):
        del inputs
        return lambda v: params * jnp.einsum("ijk,...i,...j,...k->...", Q, *jnp.moveaxis(v, -2, 0))

    rollout = SimpleNamespace(mask=mask, view=SimpleNamespace(avail=jnp.ones(action.shape, bool)))
    inputs = jnp.zeros((*mask.shape, 1))
    batch = UnderCritic(
        Critic(None, None, apply, 1), scale, inputs, jnp.full_like(action, 0.5), action, rollout
    )
    return batch, jnp.broadcast_to(Q[tuple(JOINT.T)][:, None], mask.shape)


def terms(order):
    """Eq. 7 by enumeration, [joint actions, N]: what is expected changes as agents' actions get known."""
    found = np.zeros(JOINT.shape)
    for row, u in enumerate(JOINT):
        for i, agent in enumerate(order):
            with_own, without = (
                np.mean([Q[tuple(v)] for v in JOINT if (v[order[:k]] == u[order[:k]]).all()])
                for k in (i + 1, i)
            )
            found[row, agent] = with_own - without
    return found


@pytest.mark.parametrize("scale", [1.0, 4.0, -1.0])
@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_the_slope_is_what_makes_the_credit_right(order, scale):
    batch, y = batch_of(scale)
    turns = jnp.broadcast_to(jnp.array(order), (*y.shape, AGENTS))
    log = credit_meter(batch, y, seca.sequential_and_value, KEY, turns)
    np.testing.assert_allclose(log["credit_slope"], 1.0 / scale, rtol=0.05)
    size = np.sqrt(np.mean(np.square(terms(order))))
    np.testing.assert_allclose(log["credit_rms"], abs(scale) * size, rtol=0.05)
    np.testing.assert_allclose(log["outcome_rms"], np.sqrt(np.mean((Q - scale * Q.mean()) ** 2)), rtol=1e-4)


def test_counterfactual_credit_is_measured_alike():
    batch, y = batch_of(2.0)
    log = credit_meter(batch, y, coma_newarchi.counterfactual_and_value, KEY)
    np.testing.assert_allclose(log["credit_slope"], 0.5, rtol=0.05)


def test_what_all_actions_have_in_common_is_no_credit():
    """A critic that tells one-hot from soft rows, and so makes up for its value, is not taken for right."""
    batch, y = batch_of(0.0)

    def apply(params, inputs):
        del params, inputs
        return lambda v: 3.0 * jnp.sum(jnp.square(v), axis=(-2, -1))  # 3 / 2 an agent for any action

    fooling = batch._replace(critic=batch.critic._replace(apply=apply))
    log = credit_meter(fooling, y + 100.0, coma_newarchi.counterfactual_and_value, KEY)
    assert abs(log["credit_slope"]) < 1e-3 and log["credit_rms"] < 1e-3


def test_noise_has_no_slope_and_padding_no_say():
    batch, y = batch_of(1.0)
    unrelated = jnp.full_like(y, 3.0)
    log = credit_meter(batch, unrelated, coma_newarchi.counterfactual_and_value, KEY)
    np.testing.assert_allclose(log["credit_slope"], 0.0, atol=0.1)
    mask = jnp.ones(y.shape, bool).at[4:, :1].set(False)
    padded, _ = batch_of(1.0, mask)
    first = credit_meter(padded, y, coma_newarchi.counterfactual_and_value, KEY)
    second = credit_meter(padded, y.at[4:, :1].set(jnp.nan), coma_newarchi.counterfactual_and_value, KEY)
    assert jax.tree.map(float, first) == jax.tree.map(float, second)


def test_credit_of_nobody_is_finite():
    batch, y = batch_of(0.0)
    log = credit_meter(batch, y, coma_newarchi.counterfactual_and_value, KEY)
    assert log["credit_slope"] == log["credit_rms"] == 0.0


def test_credit_counts_as_much_as_it_is_right():
    """Under calibrate the share is the slope, batch by batch nearer; noise and sign errors get none."""
    config = CreditConfig(calibrate=True, weight=0.5)
    start = SimpleState(Slope(jnp.zeros(()), jnp.zeros(())))

    def share_after(slopes, sizes):
        state = start
        for slope, size in zip(slopes, sizes, strict=True):
            state, share = calibrated(config, state, {"credit_slope": slope, "credit_rms": jnp.asarray(size)})
        return float(share)

    np.testing.assert_allclose(share_after([0.4], [2.0]), 0.5 * 0.4, rtol=1e-5)
    assert share_after([-0.4], [2.0]) == 0.0 and share_after([3.0], [2.0]) == 0.5
    # Sums, so that a batch with hardly any credit says hardly anything
    np.testing.assert_allclose(share_after([0.4, 99.0], [2.0, 1e-3]), 0.5 * 0.4, rtol=1e-3)
    both = (MEMORY * 0.8 * 1.0 + 0.2 * 4.0) / (MEMORY * 1.0 + 4.0)
    np.testing.assert_allclose(share_after([0.8, 0.2], [1.0, 2.0]), 0.5 * both, rtol=1e-5)
    assert calibrated(CreditConfig(weight=0.5, calibrate=False), start, {}) == (start, 0.5)


@struct.dataclass
class SimpleState:
    slope: Slope


def test_calibrated_credit_trains(tmp_path):
    """The share changes what is learned, and the running slope is part of a checkpoint."""
    tiny = {"map": "leader", "seeds": 1, "num_envs": 8, "window": 5, "total_steps": 480, "actor.hidden": 8}
    tiny |= {"critic.mixing": 8, "critic.hypernet_hidden": "8", "eval.episodes": 2, "log.interval": 40}
    plain = seca_jax.train(tiny, credit={"calibrate": False})
    whole = seca_jax.train(tiny, credit={"calibrate": True}, out=tmp_path / "whole")
    assert not np.array_equal(plain.metrics["train/entropy"], whole.metrics["train/entropy"], equal_nan=True)
    assert (plain.metrics["train/credit_weight"][:, 1:] == 1).all()
    counted = whole.metrics["train/credit_weight"][:, 1:]
    assert ((counted >= 0) & (counted <= 1)).all() and len(np.unique(counted)) > 2
    part = seca_jax.train(
        tiny, credit={"calibrate": True}, out=tmp_path / "run", callback=lambda step, _: step >= 40
    )
    assert part.status == "stopped"
    rest = seca_jax.train(resume=tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, rest.params, whole.params)
