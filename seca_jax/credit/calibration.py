"""How far claimed credit can be trusted: claims against true terms that are themselves estimates, in NumPy.

A claim c and the true term t of an agent's action; of t there are two independent estimates t1 and t2
(the halves of the branches), so that products of truth with itself are free of its noise:

===============  ===========================================================================
``slope``        E[t c] / E[c^2]: 1 where claims are right on average, 0 where they are noise
``correlation``  Cov(t, c) / sqrt(Var(c) Cov(t1, t2)); may pass 1 where the truth is little known
``explained``    1 - E[(t - c)^2] / E[t^2] = (2 E[t c] - E[c^2]) / E[t1 t2]
``bias``         E[c - t]
===============  ===========================================================================

Intervals are bootstrapped over groups, the episodes that the moments are from: moments of one episode are
no independent witnesses.
"""

from typing import NamedTuple

import numpy as np

from seca_jax.credit.truth import Estimate

DRAWS = 2000
LEVEL = 0.95
STATISTICS = ("rms", "truth_rms", "slope", "correlation", "explained", "bias")


class Groups(NamedTuple):
    """Which moments belong together, and how often each group is drawn in a bootstrap."""

    of: np.ndarray  # [M] int, group of a moment
    weights: np.ndarray  # [D, G], how often a draw has each group


def groups(labels: np.ndarray, seed: int = 0, draws: int = DRAWS) -> Groups:
    """From a label for every moment [M]. The same labels give the same draws."""
    found, index = np.unique(labels, return_inverse=True)
    number = len(found)
    weights = np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), size=draws)
    return Groups(index, weights.astype(np.float64))


def interval(draws: np.ndarray) -> list[float] | None:
    """The 95 % interval of bootstrap draws; None where too many of them make no sense."""
    good = draws[np.isfinite(draws)]
    if len(good) < 0.9 * len(draws):
        return None
    return [float(x) for x in np.quantile(good, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])]


def _sums(claim: np.ndarray, truth: Estimate, counted: np.ndarray, own: Groups) -> np.ndarray:
    """[G, 8] sums over every group of what the statistics are made of."""
    c, t, (t1, t2) = claim, truth.mean, truth.halves
    parts = np.stack([np.ones_like(c), c, t, t1, t2, c * c, c * t, t1 * t2], axis=-1)
    by_moment = np.where(counted[..., None], parts, 0.0).sum(axis=1)
    sums = np.zeros((own.weights.shape[1], by_moment.shape[-1]))
    np.add.at(sums, own.of, by_moment)
    return sums


def _statistics(sums: np.ndarray) -> dict[str, np.ndarray]:
    """From sums [..., 8] to statistics [...]; NaN where they make no sense."""
    n = sums[..., 0]
    with np.errstate(divide="ignore", invalid="ignore"):
        c, t, t1, t2, cc, ct, tt = np.moveaxis(sums[..., 1:] / n[..., None], -1, 0)
        spread = (cc - c**2) * (tt - t1 * t2)
        return {
            "rms": np.sqrt(cc),
            "truth_rms": np.sqrt(np.maximum(tt, 0.0)),
            "slope": np.where(cc > 0, ct / cc, np.nan),
            "correlation": np.where(
                spread > 0, (ct - c * t) / np.sqrt(np.where(spread > 0, spread, 1)), np.nan
            ),
            "explained": np.where(tt > 0, (2 * ct - cc) / tt, np.nan),
            "bias": c - t,
        }


def judge(claim: np.ndarray, truth: Estimate, counted: np.ndarray, own: Groups) -> dict:
    """The statistics of claims against truth, each with its interval.

    Args:
        claim: [M, N].
        truth: [M, N].
        counted: [M, N] bool, which of them to look at.
        own: groups of the moments.

    Returns:
        ``{"count": n, name: value, name_ci: [low, high], ...}`` for the names of :data:`STATISTICS`;
        None in place of what makes no sense.
    """
    sums = _sums(claim, truth, counted, own)
    point, draws = _statistics(sums.sum(axis=0)), _statistics(own.weights @ sums)
    found: dict = {"count": int(counted.sum())}
    for name in STATISTICS:
        value = float(point[name])
        found[name] = value if np.isfinite(value) else None
        found[f"{name}_ci"] = interval(draws[name]) if found[name] is not None else None
    return found


class Gradients(NamedTuple):
    """What policy gradients are compared by, without ever holding one.

    Attributes:
        gram: [M N, M N], products of the gradients of all log-probabilities of taken actions.
        counted: [M, N] bool.
        own: groups of the moments.
        batch: steps of one batch of the run, for the signal-to-noise ratio.
    """

    gram: np.ndarray
    counted: np.ndarray
    own: Groups
    batch: int

    def product(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[G, G], products of the groups' policy gradients with advantages ``a`` and ``b`` [M, N]."""
        a, b = (np.where(self.counted, x, 0.0).ravel() for x in (a, b))
        group = np.repeat(self.own.of, self.counted.shape[1])
        number = self.own.weights.shape[1]
        left = np.zeros((number, len(a)))
        left[group, np.arange(len(a))] = a
        right = np.zeros_like(left)
        right[group, np.arange(len(b))] = b
        return left @ self.gram @ right.T

    def squares(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """[G], sums over the groups' moments of the products of a moment's two gradients."""
        moments, agents = self.counted.shape
        blocks = self.gram.reshape(moments, agents, moments, agents)
        own = blocks[np.arange(moments), :, np.arange(moments)]  # [M, N, N]
        a, b = (np.where(self.counted, x, 0.0) for x in (a, b))
        found = np.zeros(self.own.weights.shape[1])
        np.add.at(found, self.own.of, np.einsum("mi,mij,mj->m", a, own, b))
        return found


def cosine(gradients: Gradients, claim: np.ndarray, truth: Estimate) -> dict:
    """Cosine between the policy gradients of claims and of truth, cleared of the truth's own noise.

    Returns:
        ``gradient_cosine`` and its interval ``gradient_cosine_ci``, None where they make no sense.
    """
    both = gradients.product(claim, truth.mean)
    claims = gradients.product(claim, claim)
    truths = gradients.product(truth.halves[0], truth.halves[1])

    def of(weights: np.ndarray) -> np.ndarray:  # [..., G] -> [...]
        def total(x: np.ndarray) -> np.ndarray:
            return np.sum((weights @ x) * weights, axis=-1)

        size = total(claims) * total(truths)
        return np.where(size > 0, total(both) / np.sqrt(np.where(size > 0, size, 1)), np.nan)

    value = float(of(np.ones(len(both))))
    if not np.isfinite(value):
        return {"gradient_cosine": None, "gradient_cosine_ci": None}
    return {"gradient_cosine": value, "gradient_cosine_ci": interval(of(gradients.own.weights))}


def signal_to_noise(gradients: Gradients, a: np.ndarray, b: np.ndarray | None = None) -> dict:
    """Length of the mean policy gradient over the standard deviation of a batch's, steps independent.

    The square of the mean's length is estimated from pairs of different groups, without bias; few moments
    tell little of it, as the interval says.

    Args:
        gradients: of the moments.
        a: [M, N] advantages.
        b: [M, N], where ``a`` and ``b`` are independent estimates of the same: their noise takes no part.

    Returns:
        ``gradient_snr`` and its interval ``gradient_snr_ci``, None where they make no sense.
    """
    b = a if b is None else b
    products, squares = gradients.product(a, b), gradients.squares(a, b)
    moments = np.bincount(gradients.own.of, minlength=len(squares)).astype(float)
    apart = 1.0 - np.eye(len(squares))

    def of(weights: np.ndarray) -> np.ndarray:  # [..., G] -> [...]
        def pairs(x: np.ndarray) -> np.ndarray:
            return np.sum((weights @ (x * apart)) * weights, axis=-1)

        with np.errstate(divide="ignore", invalid="ignore"):
            signal = pairs(products) / pairs(np.outer(moments, moments))
            noise = (weights @ squares) / (weights @ moments) - signal
            found = np.sqrt(np.maximum(signal, 0.0) * gradients.batch / noise)
        return np.where(noise > 0, found, np.nan)

    value = float(of(np.ones(len(squares))))
    if not np.isfinite(value):
        return {"gradient_snr": None, "gradient_snr_ci": None}
    return {"gradient_snr": value, "gradient_snr_ci": interval(of(gradients.own.weights))}


def size(truth: Estimate, counted: np.ndarray) -> dict[str, float | None]:
    """How large a term is and how well it is known.

    Args:
        truth: [M, N].
        counted: [M, N] bool.

    Returns:
        ``rms`` of the truth, cleared of its noise; ``error``, its root mean square standard error;
        ``halves``, the correlation of its two halves.
    """
    t1, t2 = truth.halves[0][counted], truth.halves[1][counted]
    error = float(np.sqrt(np.mean(truth.error[counted] ** 2)))
    rms = float(np.sqrt(max(np.mean(t1 * t2), 0.0)))
    known = t1.std() > 0 and t2.std() > 0
    return {"rms": rms, "error": error, "halves": float(np.corrcoef(t1, t2)[0, 1]) if known else None}
