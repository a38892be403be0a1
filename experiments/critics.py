"""Fits critics to the experience of one policy and asks the simulator how true their credit is.

    python experiments/critics.py run=runs/2s3z/seca/NAME
    python experiments/critics.py run=experiments/policies/2s3z-150k fit=25 passes=4 json=critics.json

The policy stays as it is, every critic starts anew and sees the same batches, each ``passes`` times. Then
each is asked about the same moments of other episodes, which the simulator has played on from (as
python -m seca_jax.audit does; its answer, which is the policy's and no critic's, is kept in ``truth``):

slope        of the truth on the credit D_i that an agent gets (Eq. 9, agents in random order): 1 where
             credit is right on average, 0 where it is noise
correlation  of the two, the truth's own noise taken out; of joint credit f(s; u) - f(s; pi), too
cosine       of the policy gradient that D_i alone makes with the true one

with 95 % intervals over episodes. The policy may be a directory that python -m seca_jax.export made.
On-policy learners only. A recipe, below, holds keys of ``critic`` and, where it is not SeCA's, ``algo``.
Options:
"""

import json as documents
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from seca_jax import audit
from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.schema import Config
from seca_jax.config.words import options
from seca_jax.credit.truth import Estimate, Truth

RECIPES: dict[str, dict[str, Any]] = {
    "the paper's, TD(0.95)": {"kind": "joint"},
    "the paper's beside V of the state, one-step surprises": {"kind": "dueling", "surprise_lam": 0.0},
    "multilinear, one-step surprises": {"kind": "multilinear", "surprise_lam": 0.0},
    "multilinear, lambda 0.5": {"kind": "multilinear", "surprise_lam": 0.5},
    "multilinear, lambda 0.8": {"kind": "multilinear", "surprise_lam": 0.8},
    "COMA's": {"algo": "coma"},
}
ORDERS = ("fixed", "random")  # which no critic decides
TERMS = ("value", "q", "coma", "marginal", "joint")


@dataclass(frozen=True)
class Options:
    run: str = key("", "directory of a run, or of a policy alone (required)", path=True)
    seed: str = key("", "which of its seeds, a number; empty: the first")
    fit: int = key(25, "batches that critics are fitted to", low=1)
    passes: int = key(4, "times that every batch is fitted to", low=1)
    states: int = key(256, "moments that they are asked about", low=2)
    branches: int = key(512, "continuations of each moment", low=2)
    truth: str = key("", "file that keeps the simulator's answer; unless given, <run>/truth.npz", path=True)
    json: str = key("", "file for the numbers", path=True)


class Asked(NamedTuple):
    """The moments that critics are asked about, and what the simulator says of them."""

    rollout: Any  # that they are of
    turns: dict[str, Any]  # orders [T, B, N]
    t: np.ndarray  # [M] steps
    b: np.ndarray  # [M] episodes
    true: Truth


def recipe_config(config: Config, recipe: dict[str, Any]) -> Config:
    """The run's configuration with a recipe's critic; a pass over a batch at a time, whatever the learner."""
    critic = {name: value for name, value in recipe.items() if name != "algo"}
    critic = replace(config.critic, updates=1, credit_stride=1, **critic)
    return replace(config, algo=recipe.get("algo", "seca"), rollout="stream", lam=0.95, critic=critic)


def save_truth(path: Path, true: Truth, about: dict[str, int]) -> None:
    """The simulator's answer as arrays [4, M, ...]: means, their errors, both halves' means."""
    parts = {name: getattr(true, name) for name in TERMS}
    parts |= {f"sequential {name}": found for name, found in true.sequential.items()}
    arrays = {name: np.stack([e.mean, e.error, *e.halves]).astype(np.float32) for name, e in parts.items()}
    np.savez_compressed(path, about=np.array(list(about.values())), **arrays)  # pyright: ignore


def load_truth(path: Path, about: dict[str, int]) -> Truth:
    """What :func:`save_truth` wrote.

    Raises:
        ConfigError: the file is of other moments or branches.
    """
    with np.load(path) as arrays:
        if arrays["about"].tolist() != list(about.values()):
            raise ConfigError(f"truth={path}: it has other moments; delete it, or name another file")
        found = {n: Estimate(x[0], x[1], x[2:]) for n, x in arrays.items() if n != "about"}
    return Truth(
        sequential={name: found[f"sequential {name}"] for name in ORDERS},
        shapley=None,
        **{name: found[name] for name in TERMS},
    )


def ask(config: Config, params: Any, chosen: Options) -> Asked:
    """Lives through the policy's episodes, chooses moments and has the simulator play on from them."""
    import jax

    from seca_jax import algos, envs
    from seca_jax.credit import order, truth
    from seca_jax.experience import moments

    env = envs.make(config)
    learner = algos.make(config, env)
    how = audit.Options(states=chosen.states, branches=chosen.branches)
    live_key, order_key = jax.random.split(jax.random.key(how.episode_seed))
    rollout, t, b = audit.lived(env, learner, params, how, live_key)
    found = order.fixed(rollout.view.avail), order.at_random(order_key, rollout.action.shape)
    turns: dict[str, Any] = dict(zip(ORDERS, found))
    path = Path(chosen.truth or Path(chosen.run) / "truth.npz")
    about = {"states": chosen.states, "branches": chosen.branches, "seed": audit.seed_of(config, chosen.seed)}
    if not path.exists():
        at = {name: np.asarray(turn)[t, b] for name, turn in turns.items()}
        setting = (env, learner, params, config.gamma)
        there, masks = moments.at(env, rollout, t, b), truth.coalitions(at)
        parts = path.with_suffix(audit.PARTS)
        played, kept = audit.play(there, masks, setting, how, parts, about, lambda done, total: None)
        save_truth(path, truth.terms(played.returned, at), about)
        kept.clear()
    return Asked(rollout, turns, t, b, load_truth(path, about))


def bench(config: Config, params: Any, name: str, chosen: Options, asked: Asked) -> dict[str, Any]:
    """One recipe: fitted to the policy's experience and held against the simulator."""
    import jax

    from seca_jax import envs
    from seca_jax.algos import actor_critic, claims, coma
    from seca_jax.algos.critic import team_critic
    from seca_jax.credit import findings

    config = recipe_config(config, RECIPES[name])
    env = envs.make(config)
    critic = coma.critic_of(env) if config.algo == "coma" else team_critic(config, env)
    parts = actor_critic.assemble(config, env, critic)
    state = actor_critic.init(parts, jax.random.key(0))
    state = replace(state, params=replace(state.params, actor=params.actor))

    @jax.jit
    def fit(state: Any, number: Any) -> Any:
        collect_key, fit_key = jax.random.split(jax.random.fold_in(jax.random.key(1), number))
        stream, rollout = actor_critic.collect(parts, state, collect_key)
        targets = actor_critic.td_targets(parts, state, rollout)
        state, _ = actor_critic.fit_critic(parts, state, rollout, targets, config.critic.lr, fit_key)
        return replace(state, stream=stream)

    start = state.stream
    for _ in range(chosen.passes):
        state = replace(state, stream=start)
        for number in range(chosen.fit):
            state = fit(state, number)
    opinion, (rollout, turns, t, b, true) = claims.opinion(config, env), asked
    said = claims.claims(opinion, state.params, rollout, turns, t, b)
    at = {order: np.asarray(turn)[t, b] for order, turn in turns.items()}
    choice = np.asarray(rollout.view.avail[t, b].sum(-1) > 1)
    products = claims.score_products(opinion, env, state.params, rollout, t, b)
    units = np.full(choice.shape, "agent")
    seen = findings.Seen(choice, at, t, b, units, products, config.num_envs * config.window)
    found = findings.findings(said.terms, said.residual, true, seen)
    return {"recipe": name, "rows": found["rows"], "value": found["value"], "truth_rms": found["truth_rms"]}


def cell(row: dict[str, Any], name: str) -> str:
    """A number with its interval."""
    interval = row.get(name + "_ci")
    if row[name] is None:
        return "-"
    return f"{row[name]:.2f}" + (f" ({interval[0]:.2f} to {interval[1]:.2f})" if interval else "")


def line(found: dict[str, Any]) -> str:
    """A recipe's line of the table."""
    by = {(row["advantage"], row["order"]): row for row in found["rows"] if not row["residual"]}
    own, joint = by["sequential", "random"], by["joint", ""]
    cells = [found["recipe"], f"{own['rms']:.3f}", *(cell(own, name) for name in ("slope", "correlation"))]
    cells += [cell(joint, "correlation"), cell(own, "gradient_cosine")]
    return f"| {' | '.join(cells)} |"


def compare(words: list[str]) -> None:
    """Every recipe in turn, printed as it ends."""
    chosen: Options = options(words, Options)
    if not chosen.run:
        raise ConfigError("run= is missing; give the directory of a trained run")
    import jax

    from seca_jax.runtime import checkpoint

    config, step, params = checkpoint.load_run(chosen.run)
    if not hasattr(params, "actor"):
        raise ConfigError(f"{chosen.run}: {config.algo} has no critic of this kind")
    seed = audit.seed_of(config, chosen.seed)
    params = jax.tree.map(lambda x: x[seed - config.seed], params)
    steps = config.num_envs * config.window
    asked = ask(config, params, chosen)
    size = np.sqrt(np.mean(np.square(asked.true.sequential["random"].mean)))
    print(
        f"{config.map} after {step:,} steps, seed {seed}: critics fitted {chosen.passes} times to "
        f"{chosen.fit * steps:,} steps, asked about {chosen.states} moments of {chosen.branches} "
        f"continuations; true credit has a root mean square of {size:.3f}, its noise included\n"
    )
    print("| critic | rms of D | slope | correlation | joint correlation | cosine |")
    print("| --- | --- | --- | --- | --- | --- |")
    rows = []
    for name in RECIPES:
        rows.append(bench(config, params, name, chosen, asked))
        print(line(rows[-1]), flush=True)
    if chosen.json:
        document = {"map": config.map, "algo": config.algo, "step": step, "seed": seed}
        document |= {name: getattr(chosen, name) for name in ("fit", "passes", "states", "branches")}
        document |= {"steps": chosen.fit * steps, "recipes": rows}
        Path(chosen.json).write_text(documents.dumps(document, indent=1) + "\n")


def main(words: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 done, 2 bad input."""
    head, _, rest = (__doc__ or "").partition("Options:")
    return commands.call(compare, words, lambda: commands.usage(head.strip(), Options))


if __name__ == "__main__":
    sys.exit(main())
