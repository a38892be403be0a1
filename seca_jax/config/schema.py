"""The schema of a run: every key, its type, default, meaning and allowed values, in one place.

``Config`` is what the rest of the package sees: frozen, complete and validated. YAML files in
``conf/`` change values, never add keys. The meaning of a key is the ``doc`` of its field, which
``--help`` prints; the values it may take are there too, and ``check`` enforces them.
"""

import dataclasses
from dataclasses import dataclass
from typing import Iterator

from seca_jax.config.keys import group, key
from seca_jax.credit import names as orders


@dataclass(frozen=True)
class EnvConfig:
    """``env.*``: how a battle is simulated and what of it is seen."""

    backend: str = key(
        "core",
        "simulator of SMAX battles: core (ours, batched) or upstream (jaxmarl's)",
        choices=("core", "upstream"),
    )
    observation: str = key(
        "unit_list",
        "SMAX observation: unit_list, or conic (as upstream, hides agent 0 from its team, shows the dead)",
        choices=("unit_list", "conic"),
    )
    state: str = key(
        "scaled",
        "global state for the critic: scaled to about [-1, 1], or raw as upstream",
        choices=("scaled", "raw"),
    )
    opponent: str = key(
        "closest", "whom SMAX's scripted opponent shoots: closest or random", choices=("closest", "random")
    )
    reward_scale: float = key(
        10.0, "factor on rewards (SMAX's add up to 2 an episode, SMAC's to 20)", above=0
    )
    time_limit: str = key(
        "upstream",
        "upstream (jaxmarl's 101 steps; 130 on 1c3s5z and MMM2, 290 on 2c_vs_64zg) or smac (its game time)",
        choices=("upstream", "smac"),
    )
    see_enemy_actions: bool = key(True, "whether SMAX's agents see what enemies did last")
    walls_cause_death: bool = key(True, "whether units at the edge of a SMAX map die, or only stop there")
    enemy_shoots: bool = key(True, "whether SMAX's scripted opponent shoots")
    won_battle_bonus: float = key(1.0, "reward of a won SMAX battle, before env.reward_scale", low=0)
    world_steps: int = key(8, "physics steps of 1/16 s in one step of a SMAX battle", low=1)
    sight_range: float = key(0.0, "how far SMAX's units see, in cells; 0: every type's own range", low=0)
    random_start: str = key(
        "map",
        "what SMAX draws for every battle, as SMACv2: none, positions, types, both, or what the map does",
        choices=("map", "none", "positions", "types", "both"),
    )
    scenario: str = key(
        "", "SMAX map of one's own in a line of YAML; map=FILE.yaml fills it in, the file's name is the map's"
    )


@dataclass(frozen=True)
class ActorConfig:
    """``actor.*``: the agents' network and how it ascends."""

    hidden: int = key(64, "width of the agent's dense layer and GRU", low=1)
    kind: str = key("gru", "gru, or mlp: a second dense layer, nothing remembered", choices=("gru", "mlp"))
    shared: bool = key(True, "one set of parameters for all agents; false: one for each")
    start: str = key(
        "uniform",
        "policy before training: uniform over the available actions, or balanced (ours): where there are "
        "more targets than moves, all attacks together are as likely as all moves",
        choices=("uniform", "balanced"),
    )
    lr: float = key(3e-3, "Adam learning rate of the actor", above=0, traced=True)
    max_grad_norm: float = key(10.0, "global-norm clip of the actor's gradient", above=0, traced=True)
    entropy: float = key(
        0.02,
        "coefficient xi of the adaptive entropy, summed over agents (lica: their mean, as its authors)",
        low=0,
        traced=True,
    )
    entropy_final: float = key(
        0.001, "value that xi falls to linearly over total_steps; negative: constant", traced=True
    )
    normalise: str = key(
        "state",
        "entropy normalised per state (Eq. 12), by the batch mean (authors' code), or as it is (none)",
        choices=("state", "batch", "none"),
    )
    epochs: int = key(4, "passes over each batch (ours, but mappo's, ippo's and pqn_vdn's too)", low=1)
    minibatches: int = key(4, "minibatches of environments per pass (the same)", low=1)
    clip: float = key(
        0.2, "clip range of the surrogate where epochs * minibatches > 1 (ours; PPO's)", above=0, traced=True
    )


@dataclass(frozen=True)
class CriticConfig:
    """``critic.*``: the critic's network and what it is fitted to."""

    lr: float = key(1e-3, "Adam learning rate of the critic", above=0, traced=True)
    max_grad_norm: float = key(10.0, "global-norm clip of the critic's gradient", above=0, traced=True)
    mixing: int = key(64, "width of the mixing layer that the hypernetwork feeds", low=1)
    hypernet_hidden: str = key("32", "hidden units of the hypernetwork, or paper (as wide as its output)")
    kind: str = key(
        "multilinear",
        "joint, f(s; v) fitted to TD(lambda) (the paper's); or ours: V(s) fitted to it, and apart c(s; v) to "
        "what the next steps surprise V by, multilinear in actions and of agents' views, or dueling, the "
        "paper's network of the state",
        choices=("joint", "dueling", "multilinear"),
        before="joint",
    )
    value_hidden: int = key(128, "width of V's two hidden layers (mappo, ippo; ours where V is apart)", low=1)
    pairs: int = key(8, "ours: width of the products of two agents' actions (kind=multilinear)", low=1)
    surprise_lam: float = key(
        0.5,
        "ours: lambda of the surprises that c(s; v) is fitted to; 0: of one step",
        low=0,
        high=1,
        before=0.0,
    )
    credit_stride: int = key(
        1,
        "ours: c(s; v) is fitted to one of so many steps of a minibatch, each time to others",
        low=1,
    )
    stride: int = key(
        0,
        "ours: V and c(s; v) are both fitted to one of so many steps of a minibatch, each time to others; 0: "
        "to all, but to fewer where all agents' views are read and are long (27m_vs_30m)",
        low=0,
    )
    target_interval: int = key(8, "critic updates between copies to the target critic", low=1)
    updates: int = key(4, "passes of the critic over each batch", low=1)
    minibatches: int = key(4, "ours: minibatches of environments per pass, each one critic update", low=1)


@dataclass(frozen=True)
class ValueConfig:
    """``value.*``: how MAPPO and IPPO fit V."""

    view: str = key(
        "state",
        "what MAPPO's V reads: the state, or for every agent the state, its observation and its number",
        choices=("state", "agents"),
    )
    norm: bool = key(False, "fit V in standard deviations from the mean of all returns so far")
    huber: float = key(
        0.0, "errors of V beyond it count linearly, in standard deviations under value.norm; 0: none", low=0
    )
    clip: float = key(
        0.0,
        "how far V may move within a batch, in the same unit; farther is not rewarded; 0: anywhere",
        low=0,
    )


@dataclass(frozen=True)
class CreditConfig:
    """``credit.*``: who is assessed first, and what makes up an advantage."""

    order: str = key(
        "ig-episode",
        f"who is first: {orders.ALLOWED}; a window orders by its part of an episode",
    )
    points: int = key(2, "points on each straight segment of the attribution path", low=1)
    path: str = key(
        "forward",
        "path differences forward (Eq. 14) or backward (authors' code)",
        choices=("forward", "backward"),
    )
    normalise: bool = key(True, "ours: divide advantages by their root mean square over the batch")
    weight: float = key(
        1.0,
        "ours: share of Eq. 9's differences in the advantage; 0 and residual=1: y - f(s;pi) for all",
        low=0,
        high=1,
    )
    calibrate: bool = key(
        True,
        "ours: multiply that share by the credit's running slope, between 0 (noise) and 1 (right)",
        before=False,
    )
    lam: float = key(
        0.9,
        "ours: lambda of the return y in the TD residual; negative: lam, as the critic's",
        high=1,
        before=-1.0,
    )
    residual: float = key(
        1.0,
        "ours: share of the TD residual y - f(s;u) added to every agent's advantage",
        low=0,
        high=1,
    )


@dataclass(frozen=True)
class ShapleyConfig:
    """``shapley.*``: SQDDPG's coalitions."""

    samples: int = key(
        3, "orders of the agents drawn at every step, whose coalitions are averaged over", low=1
    )


@dataclass(frozen=True)
class QConfig:
    """``q.*``: the value-based learners' networks, exploration and replay."""

    lr: float = key(1e-3, "learning rate of agents and mixer", above=0, traced=True)
    optimiser: str = key(
        "adam", "adam, radam (PQN's) or rmsprop (PyMARL's)", choices=("adam", "radam", "rmsprop")
    )
    max_grad_norm: float = key(10.0, "global-norm clip of the gradient", above=0, traced=True)
    epsilon: float = key(1.0, "share of random actions at the start", low=0, high=1)
    epsilon_final: float = key(0.05, "share of random actions from epsilon_steps on", low=0, high=1)
    epsilon_steps: int = key(50_000, "environment steps over which epsilon falls linearly", low=1)
    target_interval: int = key(200, "episodes between copies to the target networks", low=1)
    updates: int = key(8, "updates after every num_envs episodes", low=1)
    batch: int = key(32, "episodes replayed in an update, none of them twice", low=1)
    episodes: int = key(5000, "newest episodes that the replay buffer keeps, memory permitting", low=1)
    mixing: int = key(32, "width of the mixing network, of the layers of QPD's central Q", low=1)
    hypernet: int = key(64, "hidden units of the hypernetworks that feed it", low=1)
    heads: int = key(4, "attention heads that weigh the advantages in the mix", low=1)
    depth: int = key(1, "layers of the networks in those heads", low=1)
    memory: int = key(1024, "MiB that the replay buffers of all seeds may take up together", low=1)


@dataclass(frozen=True)
class EvalConfig:
    """``eval.*``: greedy evaluation while training."""

    interval: int = key(
        100_000, "environment steps of one seed between evaluations, rounded to whole lines of the log", low=1
    )
    episodes: int = key(32, "whole greedy episodes per evaluation and seed", low=1)


@dataclass(frozen=True)
class LogConfig:
    """``log.*``: how often numbers are written, and what the terminal shows."""

    interval: int = key(
        20_000,
        "environment steps of one seed between lines of metrics.jsonl, at most eval.interval; whole updates",
        low=1,
    )
    progress: bool = key(True, "show the progress bar")
    tensorboard: bool = key(False, "write TensorBoard's event files into tensorboard/, too")


@dataclass(frozen=True)
class CheckpointConfig:
    """``checkpoint.*``: how often the whole state is saved, and how much of it stays."""

    interval: int = key(
        500_000,
        "environment steps of one seed between checkpoints; one is always saved at the start and at the end",
        low=1,
    )
    minutes: float = key(10.0, "most minutes between checkpoints, however slow the learner", above=0)
    keep: int = key(2, "newest checkpoints kept", low=1)
    best: bool = key(
        False, "keep in best/ the checkpoint with the highest test win rate, mean over seeds, too"
    )


@dataclass(frozen=True)
class InitConfig:
    """``init.*``: whose parameters training starts from."""

    run: str = key(
        "",
        "run directory whose parameters come first, optimisers and counters fresh (init=DIR for short)",
        path=True,
    )
    step: str = key("", "its checkpoint: a step, or best; empty: the newest")
    parts: str = key(
        "all", "what is taken: actor, critic (all but the actor), all", choices=("actor", "critic", "all")
    )


@dataclass(frozen=True)
class DistributedConfig:
    """``distributed.*``: several processes that train one run, as on the hosts of a cluster."""

    coordinator: str = key(
        "",
        "HOST:PORT of process 0, or auto: as Slurm, Open MPI, Kubernetes or a TPU pod tell (distributed=auto "
        "for short); empty: one process",
    )
    processes: int = key(0, "how many there are, where coordinator is HOST:PORT", low=0)
    process: int = key(-1, "which one this is, from 0, where coordinator is HOST:PORT", low=-1)
    timeout: int = key(300, "seconds that they wait for one another at the start", low=1)


@dataclass(frozen=True)
class WandbConfig:
    """``wandb.*``: where Weights & Biases sends a run."""

    mode: str = key(
        "auto",
        "offline, online, disabled, or auto: WANDB_MODE, else online in a W&B sweep and offline elsewhere",
        choices=("auto", "offline", "online", "disabled"),
    )
    project: str = key("", "W&B project; empty: WANDB_PROJECT, else seca_jax")
    entity: str = key("", "W&B entity; empty: WANDB_ENTITY, else your default")
    group: str = key("", "W&B group of the seeds' runs; empty: WANDB_RUN_GROUP, else the run's name")
    name: str = key(
        "", "W&B name of the run, which -seed0 completes; empty: WANDB_NAME, else <map>-<algo>-<name>"
    )
    tags: str = key("", "tags beside map and algo, separated by commas; empty: WANDB_TAGS")
    directory: str = key(
        "", "directory that W&B makes wandb/ in; empty: WANDB_DIR, else the run's own", path=True
    )


@dataclass(frozen=True)
class Config:
    """Every key of a training run: the only place where a key has its default, meaning and limits."""

    map: str = key("3m", "SMAX map, particle task, probe game, or the YAML file of a SMAX map of one's own")
    algo: str = key("seca", "learner")
    preset: str = key(
        "default",
        "settings to start from: default (best measured on SMAX), accelerator (its like for hundreds of "
        "environments, on-policy learners only) or paper (the authors')",
    )
    seeds: int = key(5, "seeds trained in parallel, vmapped", low=1)
    seed: int = key(0, "the first seed; the others follow it", low=0)
    total_steps: int = key(
        4_000_000,
        "environment steps of each seed; training stops at the first update after which all have them",
        low=1,
    )
    num_envs: int = key(64, "parallel environments of each seed", low=1)
    rollout: str = key(
        "stream",
        "stream (self-restarting environments, windows) or episode (the paper's whole episodes)",
        choices=("stream", "episode"),
    )
    window: int = key(64, "steps of each environment between updates, rollout=stream only", low=1, high=4096)
    lookahead: int = key(
        0,
        "ours: windows played after a batch before it is learned from, whose rewards its returns then know; "
        "for short windows of many environments",
        low=0,
        high=64,
    )
    gamma: float = key(0.99, "discount", low=0, high=1, traced=True)
    lam: float = key(0.95, "lambda of TD(lambda)", low=0, high=1, traced=True)
    lr_decay: bool = key(False, "let the learning rates fall linearly to zero over total_steps")
    device: str = key("auto", "auto, cpu, gpu or tpu", choices=("auto", "cpu", "gpu", "tpu"))
    mesh: str = key(
        "auto",
        "devices as SEEDSxENVS, 4x2: 4 of them side by side along the seeds, each time 2 that share a seed's "
        "environments; auto: seeds first, accelerators left over share environments",
    )
    matmul: str = key(
        "default",
        "precision of matrix products: default (JAX's on the device), float32, or bfloat16 (of operands; "
        "sums are float32; a CPU does not)",
        choices=("default", "float32", "bfloat16"),
    )
    out: str = key("", "run directory; unless given, runs/<map>/<algo>/<name>", path=True)
    name: str = key("", "name of the run; empty: the start's date and time")
    resume: str = key("", "run directory to continue", path=True)
    init: InitConfig = group(InitConfig, "a trained run to start from")
    env: EnvConfig = group(EnvConfig, "environment")
    actor: ActorConfig = group(ActorConfig, "policy and its update")
    critic: CriticConfig = group(CriticConfig, "centralised critic and its update")
    value: ValueConfig = group(ValueConfig, "how the value of a state is fitted that is all a critic has")
    credit: CreditConfig = group(CreditConfig, "credit assignment")
    shapley: ShapleyConfig = group(ShapleyConfig, "Shapley Q-values")
    q: QConfig = group(QConfig, "value-based learners and their replay")
    eval: EvalConfig = group(EvalConfig, "greedy evaluation")
    log: LogConfig = group(LogConfig, "logging")
    checkpoint: CheckpointConfig = group(CheckpointConfig, "checkpoints")
    distributed: DistributedConfig = group(DistributedConfig, "several processes that train one run")
    wandb: WandbConfig = group(WandbConfig, "Weights & Biases")


def keys(cls: type = Config, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field]]:
    """Every key of the schema with its dotted name, in order, groups expanded."""
    for f in dataclasses.fields(cls):
        if isinstance(f.type, type) and dataclasses.is_dataclass(f.type):
            yield from keys(f.type, f"{prefix}{f.name}.")
        else:
            yield prefix + f.name, f


def traced() -> list[str]:
    """The keys that compiled programs take as arguments."""
    return [name for name, field in keys() if field.metadata["traced"]]


def mesh_of(config: Config) -> tuple[int, int] | None:
    """``mesh`` as (devices along the seeds, devices that share a seed's environments); None: auto.

    Raises:
        ValueError: it is neither.
    """
    if config.mesh == "auto":
        return None
    seeds, _, envs = config.mesh.partition("x")
    if not (seeds.isdecimal() and envs.isdecimal() and int(seeds) and int(envs)):
        raise ValueError("must be auto, or SEEDSxENVS as in 4x2")
    return int(seeds), int(envs)


def steps_per_update(config: Config) -> int | None:
    """Environment steps of one seed in one update; None where it depends on the episodes."""
    return config.num_envs * config.window if config.rollout == "stream" else None
