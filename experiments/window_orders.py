"""How many episodes windows cut, and how many of those ig-episode orders otherwise than as a whole.

    python experiments/window_orders.py --maps 3m 2s3z        # agents and critic as SeCA initialises them
    python experiments/window_orders.py --runs runs/3m/seca/NAME

Five windows of SeCA's defaults (64 environments, 64 steps), seed 0. Episodes that begin and end within the
five windows count; an episode ordered otherwise has another order at one of its steps at least. As a
Markdown table.
"""

import argparse
import sys
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from seca_jax import envs
from seca_jax.algos import actor_critic, seca
from seca_jax.algos.critic import team_critic
from seca_jax.config.schema import Config
from seca_jax.credit import attribution, order
from seca_jax.runtime import checkpoint

WINDOWS = 5


class Share(NamedTuple):
    """Of one map."""

    episodes: int
    length: float  # steps of an episode, mean
    cut: float  # share of the episodes
    otherwise: float  # share of the cut episodes whose order differs somewhere
    steps: float  # share of all steps at which the order differs


def share(config: Config, params: Any = None) -> Share:
    """Plays and orders; ``params`` of one seed, or SeCA's initial ones."""
    env = envs.make(config)
    parts = actor_critic.assemble(config, env, team_critic(config, env))
    state = jax.jit(lambda key: actor_critic.init(parts, key))(jax.random.key(0))
    if params is not None:
        state = state.replace(params=params)

    @jax.jit
    def window(state: Any, key: jax.Array) -> tuple[Any, Any, jax.Array]:
        stream, rollout = actor_critic.collect(parts, state, key)
        batch = actor_critic.under_critic(parts, state.params.critic, rollout, rollout.extra)
        inside = seca.order_of(config.credit, batch)
        seen = batch.inputs, batch.policy, rollout.age
        return state.replace(stream=stream), seen, inside

    seen, inside = [], []
    for key in jax.random.split(jax.random.key(1), WINDOWS):
        state, own, ordered = window(state, key)
        seen.append(own)
        inside.append(ordered)
    inputs, policy, age = jax.tree.map(lambda *x: jnp.concatenate(x), *seen)

    critic, critic_params = parts.critic, state.params.critic

    @jax.jit
    def as_a_whole(inputs: jax.Array, policy: jax.Array, age: jax.Array) -> tuple[jax.Array, jax.Array]:
        episode = jnp.cumsum(age == 0, axis=0)
        contribution = attribution.path_contribution(
            lambda s, v: critic.apply(critic_params, s)(v),
            policy,
            inputs,
            points=config.credit.points,
            mask=age[1:] != 0,
            stage=episode,
            chunks=critic.chunks(jnp.ones(age.shape, bool)),
        )
        return order.by_contribution(contribution), episode

    whole, episode = as_a_whole(inputs, policy, age)
    differs = np.asarray(jnp.any(jnp.concatenate(inside) != whole, axis=-1))

    episode, lengths, cuts, others = np.asarray(episode), [], [], []
    for b in range(episode.shape[1]):
        for number in range(1, episode[-1, b]):  # the last one may go on
            steps = np.flatnonzero(episode[:, b] == number)
            lengths.append(len(steps))
            cuts.append(steps[0] // config.window != steps[-1] // config.window)
            others.append(differs[steps, b].sum())
    length, cut, other = np.array(lengths), np.array(cuts), np.array(others)
    assert not other[~cut].any(), "what lies inside a window is ordered as a whole"
    return Share(len(length), length.mean(), cut.mean(), (other[cut] > 0).mean(), other.sum() / length.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--maps", nargs="*", default=[])
    parser.add_argument("--runs", nargs="*", default=[])
    arguments = parser.parse_args()
    if not arguments.maps and not arguments.runs:
        sys.exit("which? --maps 3m 2s3z, or --runs of SeCA")
    print("| map | trained | episodes | steps | cut | of these otherwise | of all steps otherwise |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    rows = [(Config(map=name), "no", None) for name in arguments.maps]
    for run in arguments.runs:
        config, step, params = checkpoint.load_run(run)
        rows.append((config, f"{step:,} steps", jax.tree.map(lambda x: x[0], params)))
    for config, trained, params in rows:
        own = share(config, params)
        cells = [config.map, trained, f"{own.episodes:,}", f"{own.length:.0f}"]
        cells += [f"{100 * part:.0f} %" for part in (own.cut, own.otherwise, own.steps)]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
