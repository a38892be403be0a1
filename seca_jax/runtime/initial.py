"""Training that starts from a trained run's parameters: ``init=DIR``."""

from typing import Any, Callable

import jax
import numpy as np

from seca_jax import runs
from seca_jax.config.check import ConfigError
from seca_jax.config.schema import Config
from seca_jax.runtime import checkpoint
from seca_jax.runtime.policies import acts, leaves, named


def start(config: Config, abstract: Any) -> Callable[[Any], Any]:
    """What turns a fresh train state into the one that training starts from.

    Seeds take the trained run's in order; where that has fewer, they begin with its first again. Target
    networks, of the learners that have them, start as copies. Optimisers and counters stay fresh.

    Args:
        config: ``init`` matters.
        abstract: the train state's ShapeDtypeStructs, leaves [seeds, ...].

    Raises:
        ConfigError: there is no such run or checkpoint, or its parameters have other shapes.
    """
    init = config.init
    trained, _, params = checkpoint.load_run(init.run, step=init.step)
    of_seed = np.arange(config.seeds) % trained.seeds
    params = jax.tree.map(lambda x: np.asarray(x)[of_seed], params)
    known, wanted = leaves(params), leaves(abstract.params)
    parts = init.parts
    if runs.policy_alone(init.run):
        if parts == "critic":
            raise ConfigError(f"init={init.run}: its policy alone is there; init.parts=actor takes it")
        parts = "actor"
    chosen = [name for name in wanted if parts == "all" or acts(name) == (parts == "actor")]
    if not chosen:
        raise ConfigError(f"init.parts={init.parts}: {config.algo} has no such parameters")
    for name in chosen:
        there, here = (
            f"[{', '.join(map(str, found[name].shape[1:]))}]" if name in found else "missing"
            for found in (known, wanted)
        )
        if there != here:
            raise ConfigError(
                f"init={init.run}: {name} is {there} there ({trained.algo} on {trained.map}), {here} here "
                f"({config.algo} on {config.map}); init.parts= takes a part of the parameters"
            )

    def changed(state: Any) -> Any:
        taken = {name: known[name] for name in chosen}
        fresh = state.params
        params = jax.tree_util.tree_map_with_path(lambda path, x: taken.get(named(path), x), fresh)
        state = state.replace(params=params)
        if not hasattr(state, "target"):
            return state
        # The target is of all parameters, or of the critic's
        same = jax.tree.structure(state.target) == jax.tree.structure(params)
        target = params if same else params.critic
        return state.replace(target=jax.tree.map(np.copy, target))

    return changed
