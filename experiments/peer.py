"""JaxMARL's own scripts beside ours: python experiments/peer.py checkout=PATH

PATH is a directory of github.com/FLAIROx/JaxMARL's files.

    python experiments/peer.py checkout=../JaxMARL maps=2s3z,3s_vs_5z seeds=3 total_steps=1_000_000
    python experiments/peer.py checkout=../JaxMARL what=qmix maps=2s3z

mappo: runs baselines/MAPPO/mappo_rnn_smax.py of a checkout of JaxMARL with its own settings file, but for the
map and the number of steps, one seed after the other as the script does. Where it would log, its actor is
taken instead; every tenth of the run its greedy policy then plays 256 whole battles on its own environment,
off the clock. Of what the script imports, distrax, hydra, omegaconf and six need not be installed: of the
first it uses a categorical distribution, of the others nothing here. Rows go to
experiments/results/peer/<map>.json, which experiments/draw.py draws beside the stored runs of figure5. A
million steps take minutes a seed.

qmix: how fast baselines/QLearning/qmix_rnn.py trains with its own settings once it learns, and how fast our
QMIX does with networks and batches of the same sizes, in turn; seeds and total_steps say nothing of it. Rows
go to experiments/results/benchmark/qmix_jaxmarl_size.json. It takes a quarter of an hour a map. Options:
"""

import json
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measured
import numpy as np
import yaml

from seca_jax.config import commands
from seca_jax.config.check import ConfigError
from seca_jax.config.keys import key
from seca_jax.config.words import options as checked_options

RESULTS = Path(__file__).parent / "results"
SCRIPT = Path("baselines/MAPPO/mappo_rnn_smax.py")
SETTINGS = Path("baselines/MAPPO/config/mappo_homogenous_rnn_smax.yaml")
LOGS = "jax.experimental.io_callback(callback, None, metric)\n"  # in the script, once
TAKES = (
    "jax.experimental.io_callback(taken, None, train_states[0].params, update_steps,"
    " metric['returned_won_episode'][..., 0], metric['returned_episode'][..., 0])\n"
)
EPISODES = 256
POINTS = 10  # of a run's curve
QMIX = Path("baselines/QLearning/qmix_rnn.py")
QMIX_SETTINGS = Path("baselines/QLearning/config/alg/ql_rnn_smax.yaml")
# The QMIX script learns from as many updates on as its batches have sequences; it is timed after so many more
LEARNS_AFTER, TIMED = 2, 4
ROUNDS = 2  # of both trainers, in turn


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    checkout: str = key("", "directory of a checkout of JaxMARL")
    what: str = key("mappo", "mappo: curves; qmix: speed", choices=("mappo", "qmix"))
    maps: str = key("2s3z,3s_vs_5z", "maps, separated by commas")
    seeds: int = key(3, "how many, from 0 on", low=1)
    total_steps: int = key(1_000_000, "environment steps of a seed", low=1)


def stand_ins() -> None:
    """Modules that the scripts import and hardly use, where they are not installed."""
    import jax
    import jax.numpy as jnp

    class Categorical:
        """All that the MAPPO script wants of distrax."""

        def __init__(self, logits: Any) -> None:
            self.logits = jax.nn.log_softmax(logits)

        def sample(self, seed: Any) -> Any:
            return jax.random.categorical(seed, self.logits)

        def log_prob(self, value: Any) -> Any:
            return jnp.take_along_axis(self.logits, value[..., None], axis=-1)[..., 0]

        def entropy(self) -> Any:
            return -jnp.sum(jnp.exp(self.logits) * self.logits, axis=-1)

    def undecorated(*args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        return lambda function: function

    missing = {
        "distrax": {"Categorical": Categorical},
        "hydra": {"main": undecorated},
        "omegaconf": {"OmegaConf": None},
        # gymnax, which jaxmarl's wrappers import, wants it for data that nobody loads here
        **{name: {} for name in ("six", "six.moves", "six.moves.urllib")},
        "six.moves.urllib.request": {"urlretrieve": None},
    }
    for name, attributes in missing.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        sys.modules.setdefault(name, module)


def script(path: Path, taken: Callable[..., None] | None = None) -> dict[str, Any]:
    """The names that a script defines.

    Args:
        path: of the script.
        taken: instead of the MAPPO script's logging, called after every update with the actor's parameters,
            the update's number, and which battles ended at each step and were won, [T, B] bool each.

    Raises:
        ConfigError: there is no such script, it is not the one that is known here, or it lacks a module.
    """
    stand_ins()
    if not path.is_file():
        raise ConfigError(f"checkout: no {path}; it is a directory of github.com/FLAIROx/JaxMARL's files")
    text = path.read_text()
    if taken and text.count(LOGS) != 1:
        raise ConfigError(f"{path}: not the script that is known here: it logs otherwise")
    names: dict[str, Any] = {"__name__": "peer_script", "taken": taken}
    try:
        exec(compile(text.replace(LOGS, TAKES) if taken else text, str(path), "exec"), names)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{path} needs {error.name}: install it beside seca_jax") from None
    return names


def greedy_of(names: dict[str, Any], settings: dict[str, Any]) -> Callable[[Any, Any], float]:
    """(parameters, key) -> share of whole battles won by the greedy policy on the script's environment."""
    import jax
    import jax.numpy as jnp

    scenario = names["map_name_to_scenario"](settings["MAP_NAME"])
    env = names["HeuristicEnemySMAX"](scenario=scenario, **settings["ENV_KWARGS"])
    longest = env.max_steps + 1  # upstream tests its limit before it counts the step
    env = names["SMAXLogWrapper"](names["SMAXWorldStateWrapper"](env, settings["OBS_WITH_AGENT_ID"]))
    agents, rows = env.agents, len(env.agents) * EPISODES
    network = names["ActorRNN"](env.action_space(agents[0]).n, config=settings)

    def together(values: dict[str, Any]) -> Any:
        return names["batchify"](values, agents, rows)

    @jax.jit
    def play(params: Any, random: Any) -> Any:
        first, random = jax.random.split(random)
        obs, state = jax.vmap(env.reset)(jax.random.split(first, EPISODES))
        hidden = names["ScannedRNN"].initialize_carry(rows, settings["GRU_HIDDEN_DIM"])

        def step(carry: tuple, random: Any) -> tuple:
            obs, state, hidden, done, over, won = carry
            avail = together(jax.vmap(env.get_avail_actions)(state.env_state))
            hidden, pi = network.apply(params, hidden, (together(obs)[None], done[None], avail))
            action = names["unbatchify"](jnp.argmax(pi.logits, axis=-1), agents, EPISODES, len(agents))
            action = {agent: each.squeeze() for agent, each in action.items()}
            keys = jax.random.split(random, EPISODES)
            obs, state, _, done, info = jax.vmap(env.step)(keys, state, action)
            ended = done["__all__"]
            won = jnp.where(ended & ~over, info["returned_won_episode"][:, 0], won)
            return (obs, state, hidden, together(done).squeeze(), over | ended, won), None

        start = (obs, state, hidden, jnp.zeros(rows, bool), jnp.zeros(EPISODES, bool), jnp.zeros(EPISODES))
        (*_, over, won), _ = jax.lax.scan(step, start, jax.random.split(random, longest))
        return jnp.mean(won), jnp.all(over)

    def rate(params: Any, random: Any) -> float:
        won, over = play(params, random)
        assert over, "a battle outlasted the time limit"
        return float(won)

    return rate


def measure(checkout: Path, map_name: str, seeds: int, total_steps: int) -> dict[str, Any]:
    """Trains every seed and plays its policies; raises ConfigError."""
    import jax

    seen: list[tuple[float, int, Any, float | None]] = []

    def taken(params: Any, update: Any, won: Any, ended: Any) -> None:
        now, won, ended = time.perf_counter(), np.asarray(won), np.asarray(ended)
        sampled = float(won[ended].mean()) if ended.any() else None
        seen.append((now, int(update), jax.tree.map(np.array, params), sampled))

    names = script(checkout / SCRIPT, taken)
    settings = yaml.safe_load((checkout / SETTINGS).read_text())
    settings |= {"MAP_NAME": map_name, "TOTAL_TIMESTEPS": total_steps, "LR": float(settings["LR"])}
    batch = settings["NUM_ENVS"] * settings["NUM_STEPS"]
    updates = total_steps // batch
    if not updates:
        raise ConfigError(f"total_steps={total_steps}: the script's batch alone has {batch:,}")
    play = greedy_of(names, settings)
    began = time.perf_counter()
    train = jax.jit(names["make_train"](dict(settings))).lower(jax.random.PRNGKey(0)).compile()
    compile_s = time.perf_counter() - began
    every, runs = max(1, updates // POINTS), []
    for seed in range(seeds):
        seen.clear()
        began = time.perf_counter()
        jax.block_until_ready(train(jax.random.PRNGKey(seed)))
        jax.effects_barrier()
        took = time.perf_counter() - began
        points = [
            {
                "step": (update + 1) * batch,
                "wall_s": round(now - began, 2),
                "greedy": play(params, jax.random.PRNGKey(1000 + update)),
                "sampled": sampled,
            }
            for now, update, params, sampled in seen
            if (update + 1) % every == 0 or update + 1 == updates
        ]
        runs.append({"seed": seed, "seconds": round(took, 1), "points": points})
        print(f"{map_name}, seed {seed}: {took:.0f} s, greedy {points[-1]['greedy']:.3f}", flush=True)
    return {
        "map": map_name,
        "episodes": EPISODES,
        "compile_s": round(compile_s, 1),
        "settings": settings,
        "runs": runs,
    }


def script_rate(checkout: Path, map_name: str) -> tuple[float, int]:
    """Steps a second of the QMIX script once it learns, and the bytes that its program takes."""
    import jax

    names = script(checkout / QMIX)
    settings = yaml.safe_load((checkout / QMIX_SETTINGS).read_text())
    settings |= {"LR": float(settings["LR"]), "TEST_DURING_TRAINING": False, "WANDB_MODE": "disabled"}
    scenario = names["map_name_to_scenario"](map_name)
    env = names["SMAXLogWrapper"](
        names["make"](settings["ENV_NAME"], **settings["ENV_KWARGS"], scenario=scenario)
    )
    batch, first = settings["NUM_ENVS"] * settings["NUM_STEPS"], settings["BUFFER_BATCH_SIZE"] + LEARNS_AFTER
    seconds, size = [], 0
    for updates in (first, first + TIMED):
        train = jax.jit(names["make_train"](settings | {"TOTAL_TIMESTEPS": updates * batch}, env))
        program: Any = train.lower(jax.random.PRNGKey(0)).compile()
        memory = program.memory_analysis()
        size = int(memory.temp_size_in_bytes + memory.argument_size_in_bytes)
        began = time.perf_counter()
        jax.block_until_ready(program(jax.random.PRNGKey(0)))
        seconds.append(time.perf_counter() - began)
    return TIMED * batch / (seconds[1] - seconds[0]), size


def own_row(checkout: Path, map_name: str) -> dict[str, Any]:
    """What our benchmark says of QMIX at the script's sizes."""
    told = yaml.safe_load((checkout / QMIX_SETTINGS).read_text())
    words = {
        "map": map_name,
        "num_envs": told["NUM_ENVS"],
        "actor.hidden": told["HIDDEN_SIZE"],
        "q.mixing": told["MIXER_EMBEDDING_DIM"],
        "q.hypernet": told["MIXER_HYPERNET_HIDDEN_DIM"],
        "q.lr": told["LR"],
        "q.updates": told["NUM_EPOCHS"],
        "q.batch": told["BUFFER_BATCH_SIZE"],
    }
    with tempfile.TemporaryDirectory() as place:
        target = Path(place) / "row.json"
        command = [sys.executable, "-m", "seca_jax.benchmark", "what=train", "algo=qmix", "seeds=1"]
        command += [f"{name}={value}" for name, value in words.items()]
        subprocess.run([*command, f"json={target}"], check=True, stdout=subprocess.DEVNULL)
        (row,) = json.loads(target.read_text())["rows"]
    return row


def race(checkout: Path, maps: list[str]) -> list[dict[str, Any]]:
    """Rows of both trainers on each map, the median of ROUNDS in turn; raises ConfigError."""
    rows = []
    for map_name in maps:
        theirs, ours = [], []
        for _ in range(ROUNDS):
            theirs.append(script_rate(checkout, map_name))
            ours.append(own_row(checkout, map_name))
            print(
                f"{map_name}: script {theirs[-1][0]:.1f}, ours {ours[-1]['steps_per_s']:.1f} steps/s",
                flush=True,
            )
        rates = [rate for rate, _ in theirs]
        own = {**ours[0], "steps_per_s": float(np.median([row["steps_per_s"] for row in ours]))}
        beside = {"algo": "qmix (JaxMARL's script)", "backend": "script", "peak_bytes": theirs[0][1]}
        rows += [own, {**own, **beside, "steps_per_s": float(np.median(rates))}]
    return rows


def report(words: list[str]) -> None:
    """Measure what the words ask for and store it; raises ConfigError, OSError."""
    options: Options = checked_options(words, Options)
    if not options.checkout:
        raise ConfigError("checkout= is missing: a directory of github.com/FLAIROx/JaxMARL's files")
    checkout, maps = Path(options.checkout), options.maps.split(",")
    shown = [f"checkout={checkout.name}" if word.startswith("checkout=") else word for word in words]
    if options.what == "qmix":
        store_document(RESULTS / "benchmark/qmix_jaxmarl_size.json", shown, {"rows": race(checkout, maps)})
        return
    for map_name in maps:
        row = measure(checkout, map_name, options.seeds, options.total_steps)
        store_document(RESULTS / "peer" / f"{map_name}.json", shown, {"script": str(SCRIPT), **row})


def store_document(path: Path, words: list[str], found: dict[str, Any]) -> None:
    """Writes what was measured with what it came from, and says where; raises OSError."""
    import jax

    document = measured.origin("experiments/peer.py", words, jax.devices())
    measured.write(path, document | found)
    print(path)


def main(words: list[str]) -> int:
    """The command line; exit status 0 done, 2 bad input."""
    return commands.call(report, words, lambda: commands.usage((__doc__ or "").strip(), Options))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
