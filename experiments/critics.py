"""Fits critics to the experience of one trained policy and asks how much their credit is worth.

    python experiments/critics.py run=runs/2s3z/seca/NAME
    python experiments/critics.py run=DIR fit=50 held=30 passes=4 json=critics.json

The policy stays as it is, every critic starts anew and sees the same batches, each ``passes`` times. On
batches that none has seen:

slope     E[(G - V) D_i] / E[D_i^2] of an agent's credit D_i (Eq. 9, agents in random order) and the outcome
          G of its episode: 1 where credit is right on average, 0 where it is noise
captured  E[(G - V) D_i] / rms(D_i), in rewards: the root mean square of the part of true credit that the
          critic's has; over the root mean square of the truth (python -m seca_jax.audit), its correlation
cosine    of the policy gradient from one batch with the gradient from the outcomes of all others
aim       the same of the mean over batches: what noise there is averages out, what is wrong stays

Rows of the second table are advantages: R(lambda) = y - V with that lambda for everybody, and D_i with a
share of the residual y - V - sum_j D_j. On-policy learners only. Options:
"""

import json as documents
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.schema import Config
from seca_jax.config.words import options

LAMBDAS = (0.95, 0.8, 0.5)
RECIPES: dict[str, dict[str, Any]] = {
    "joint, lambda 0.95": {"kind": "joint", "lam": 0.95},
    "joint, lambda 0.5": {"kind": "joint", "lam": 0.5},
    "dueling, one-step surprises": {"kind": "dueling", "credit_stride": 1, "lam": 0.95},
    "the same, a quarter of the steps": {"kind": "dueling", "credit_stride": 4, "lam": 0.95},
    "surprises of lambda 0.5": {"kind": "dueling", "credit_stride": 1, "surprise_lam": 0.5, "lam": 0.95},
}


@dataclass(frozen=True)
class Options:
    run: str = key("", "directory of a run (required)", path=True)
    seed: int = key(0, "which of its seeds, counted from 0", low=0)
    fit: int = key(100, "batches that critics are fitted to", low=1)
    held: int = key(60, "batches that they are asked about", low=10)
    passes: int = key(4, "times that every batch is fitted to", low=1)
    json: str = key("", "file for the numbers", path=True)


def recipe_config(config: Config, recipe: dict[str, Any]) -> Config:
    """The run's configuration with a recipe's critic; a pass over a batch at a time, whatever the learner."""
    critic = {name: value for name, value in recipe.items() if name != "lam"}
    critic = replace(config.critic, updates=1, **critic)
    return replace(config, algo="seca", rollout="stream", lam=recipe["lam"], critic=critic)


def outcomes(reward: Any, ended: Any, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Discounted reward to the episode's end [T, B], and where that end was seen."""
    g, known = np.zeros(reward.shape), np.zeros(reward.shape, bool)
    after, seen = np.zeros(reward.shape[1]), np.zeros(reward.shape[1], bool)
    for t in reversed(range(len(reward))):
        after = reward[t] + gamma * np.where(ended[t], 0.0, after)
        seen = seen | ended[t]
        g[t], known[t] = after, seen
    return g, known


def gradients(scores: np.ndarray, reference: np.ndarray) -> tuple[float | None, float | None]:
    """Cosine of one batch's gradient with the truth, and of their mean; both [batches, P].

    The truth is the reference's mean over the other half of the batches; its noise and the mean's are
    taken out of the lengths. None where a mean is all noise: more batches would tell.
    """
    half = np.arange(len(scores)) % 2 == 0

    def mean_and_length(x: np.ndarray) -> tuple[np.ndarray, float]:
        mean = x.mean(0)
        noise = x.var(0, ddof=1).sum() / len(x)
        signal = mean @ mean - noise
        return mean, float(np.sqrt(signal)) if signal > 0 else float("nan")

    cosines, aims = [], []
    for own in (half, ~half):
        truth, length = mean_and_length(reference[~own])
        mean, own_length = mean_and_length(scores[own])
        norms = np.linalg.norm(scores[own], axis=1)
        cosines.append(float(np.mean(scores[own] @ truth / norms) / length))
        aims.append(float(mean @ truth / own_length / length))
    cosine, aim = float(np.mean(cosines)), float(np.mean(aims))
    return None if np.isnan(cosine) else cosine, None if np.isnan(aim) else aim


def pair(found: dict[str, float | None]) -> str:
    """A cell: cosine, aim."""
    return ", ".join("-" if x is None else f"{x:.2f}" for x in (found["cosine"], found["aim"]))


def bench(config: Config, actor: Any, name: str, chosen: Options) -> dict[str, Any]:
    """One recipe: fitted, asked, and its advantages turned into gradients."""
    import jax
    import jax.numpy as jnp
    from jax.flatten_util import ravel_pytree

    from seca_jax import envs
    from seca_jax.algos import actor_critic, policy, seca
    from seca_jax.algos.critic import team_critic
    from seca_jax.arrays import masked_mean

    config = recipe_config(config, RECIPES[name])
    env = envs.make(config)
    parts = actor_critic.assemble(config, env, team_critic(config, env))
    state = actor_critic.init(parts, jax.random.key(0))
    state = replace(state, params=replace(state.params, actor=actor))

    @jax.jit
    def fit(state: Any, number: Any) -> Any:
        collect_key, fit_key = jax.random.split(jax.random.fold_in(jax.random.key(1), number))
        stream, rollout = actor_critic.collect(parts, state, collect_key)
        targets = actor_critic.td_targets(parts, state, rollout)
        state, log = actor_critic.fit_critic(parts, state, rollout, targets, config.critic.lr, fit_key)
        return replace(state, stream=stream), log["critic_loss"]

    def batch_of(stream: Any, number: Any) -> Any:
        key = jax.random.fold_in(jax.random.key(2), number)
        return actor_critic.collect(parts, replace(state, stream=stream), key), key

    @jax.jit
    def ask(critic: Any, target: Any, stream: Any, number: Any) -> Any:
        (stream, rollout), key = batch_of(stream, number)
        batch = actor_critic.under_critic(parts, critic, rollout, rollout.extra)
        draws = jax.random.uniform(jax.random.fold_in(key, 1), rollout.action.shape)
        credit, _ = batch.at_states(seca.sequential_and_value, jnp.argsort(draws, axis=-1))
        value = batch.at_states(lambda f, policies, action: parts.critic.value(f, policies))
        judged = replace(state, target=target)
        returns = [actor_critic.td_targets(parts, judged, rollout, lam).outcome for lam in LAMBDAS]
        counted = policy.choices(rollout.mask, rollout.view.avail)
        ended = rollout.terminated | rollout.truncated
        return stream, (credit, value, jnp.stack(returns), counted, rollout.reward, ended)

    @jax.jit
    def ascend(stream: Any, number: Any, advantages: Any) -> Any:
        (stream, rollout), _ = batch_of(stream, number)

        def gain(actor: Any, advantage: Any) -> Any:
            log_prob = policy.log_prob_of(policy.unrolled(parts.agent, actor, rollout), rollout.action)
            return masked_mean(jnp.sum(log_prob * advantage, axis=-1), rollout.mask)

        gradient = jax.lax.map(lambda a: ravel_pytree(jax.grad(gain)(actor, a))[0], advantages)
        return stream, gradient

    start = state.stream
    for _ in range(chosen.passes):
        state = replace(state, stream=start)
        for number in range(chosen.fit):
            state, _ = fit(state, number)
    stream, seen = start, []
    for number in range(chosen.held):
        stream, said = ask(state.params.critic, state.params.critic, stream, number)
        seen.append(jax.device_get(said))
    credit, value, counted, reward, ended = (np.concatenate([s[i] for s in seen]) for i in (0, 1, 3, 4, 5))
    returns = np.concatenate([s[2] for s in seen], axis=1)
    g, known = outcomes(reward, ended, config.gamma)
    surprise = g - value - np.mean((g - value)[known])
    where = counted & known[..., None]
    together, size = np.mean((surprise[..., None] * credit)[where]), np.mean(np.square(credit)[where])

    everybody = np.ones(credit.shape[-1])
    total = credit.sum(-1)
    advantages = {"outcome": (g - value)[..., None] * everybody}
    for lam, y in zip(LAMBDAS, returns):
        advantages[f"R({lam})"] = (y - value)[..., None] * everybody
        for share in (1.0, 0.2) if lam == LAMBDAS[0] else (1.0,):
            residual = share * (y - value - total)
            advantages[f"D + {share:g} residual({lam})"] = credit + residual[..., None]
    advantages["D"] = credit
    stacked = np.stack(list(advantages.values())).astype(np.float32)
    length = config.window
    stream, found = start, []
    for number in range(chosen.held):
        here = stacked[:, number * length : (number + 1) * length]
        stream, gradient = ascend(stream, number, here)
        found.append(np.asarray(gradient))
    found = np.stack(found, axis=1)  # [advantages, batches, P]
    last = known[::length].all(1)  # batches whose outcomes are all known
    directions = {
        label: gradients(own[last], found[0][last])
        for label, own in zip(advantages, found)
        if label != "outcome"
    }
    return {
        "recipe": name,
        "rms": float(np.sqrt(size)),
        "slope": float(together / size),
        "captured": float(together / np.sqrt(size)),
        "value_explains": float(1 - np.var((g - value)[known]) / np.var(g[known])),
        "gradients": {label: {"cosine": c, "aim": a} for label, (c, a) in directions.items()},
    }


def compare(words: list[str]) -> None:
    """Every recipe in turn, printed as it ends."""
    chosen = options(words, Options)
    if not chosen.run:
        raise ConfigError("run= is missing; give the directory of a trained run")
    import jax

    from seca_jax.runtime import checkpoint

    config, step, params = checkpoint.load_run(chosen.run)
    if not hasattr(params, "actor"):
        raise ConfigError(f"{chosen.run}: {config.algo} has no critic of this kind")
    if chosen.seed >= config.seeds:
        raise ConfigError(f"seed={chosen.seed}: the run has seeds 0 to {config.seeds - 1}")
    actor = jax.tree.map(partial(lambda i, x: x[i], chosen.seed), params.actor)
    steps = config.num_envs * config.window
    print(
        f"{config.map} after {step:,} steps, seed {chosen.seed}: critics fitted {chosen.passes} times to "
        f"{chosen.fit * steps:,} steps, asked about {chosen.held * steps:,} others\n"
    )
    print("| critic | rms of D | slope | captured | V explains |\n| --- | --- | --- | --- | --- |")
    rows = []
    for name in RECIPES:
        row = bench(config, actor, name, chosen)
        rows.append(row)
        numbers = (
            f"{row['rms']:.3f} | {row['slope']:.2f} | {row['captured']:.3f} | {row['value_explains']:.2f}"
        )
        print(f"| {name} | {numbers} |", flush=True)
    print("\n| advantage: cosine, aim | " + " | ".join(RECIPES) + " |\n| --- |" + " --- |" * len(rows))
    for label in rows[0]["gradients"]:
        cells = [pair(row["gradients"][label]) for row in rows]
        print(f"| {label} | " + " | ".join(cells) + " |")
    if chosen.json:
        document = {"map": config.map, "algo": config.algo, "step": step, "seed": chosen.seed}
        document |= {"fit": chosen.fit, "held": chosen.held, "passes": chosen.passes, "rows": rows}
        Path(chosen.json).write_text(documents.dumps(document, indent=1) + "\n")


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    head, _, rest = (__doc__ or "").partition("Options:")
    return commands.call(compare, words, lambda: commands.usage(head.strip(), Options))


if __name__ == "__main__":
    sys.exit(main())
