"""An audit's tables: claims against truth, all together and by place, unit and time."""

from typing import Any, NamedTuple

import numpy as np

from seca_jax.credit import calibration
from seca_jax.credit.truth import Truth

TIMES = 4  # spans of about as many moments that episodes are divided into


class Seen(NamedTuple):
    """What is known about ``M`` moments besides claims and truth.

    Attributes:
        choice: [M, N] bool, agents with a choice; the others deserve nothing and are claimed nothing.
        turns: orders [M, N] by name.
        time: [M] steps since the start of the episode.
        episode: [M] its number.
        unit: [M, N] names of the agents' types.
        products: [M N, M N] of the gradients of log pi(u); None where there is no policy gradient.
        batch: steps of a batch of the run.
    """

    choice: np.ndarray
    turns: dict[str, np.ndarray]
    time: np.ndarray
    episode: np.ndarray
    unit: np.ndarray
    products: np.ndarray | None
    batch: int


def spans(time: np.ndarray) -> list[tuple[int, int]]:
    """First and last step of spans of time with about as many moments each."""
    edges = np.unique(np.quantile(time, np.linspace(0, 1, TIMES + 1)).astype(int)).tolist()
    if len(edges) == 1:
        return [(edges[0], edges[0])]
    return list(zip(edges, [*(high - 1 for high in edges[1:-1]), edges[-1]]))


def findings(
    claims: dict[tuple[str, str], np.ndarray], residual: np.ndarray | None, true: Truth, seen: Seen
) -> dict[str, Any]:
    """The tables of the audit's JSON document.

    Args:
        claims: [M, N] by (advantage, order).
        residual: [M, N], what may be added to all of them; or None.
        true: the truth under the same orders.
        seen: about the moments.

    Returns:
        ``truth_rms`` of the first order, ``value`` (V's mean and its error), ``truth`` (the size of every
        true term), ``truth_gradient`` (its signal-to-noise ratio), ``rows`` (claims against truth) and, for
        claims without the residual, ``by_place``, ``by_unit`` and ``by_time``. The true policy gradient that
        rows are compared with is that of Eq. 6's true terms: everything but an agent's own action is
        averaged over, which leaves it the least noise of all.
    """
    own = calibration.groups(seen.episode)
    gradients = None
    if seen.products is not None:
        gradients = calibration.Gradients(seen.products, seen.choice, own, seen.batch)
    terms = {("sequential", name): found for name, found in true.sequential.items()}
    terms |= {(name, ""): getattr(true, name) for name in ("coma", "marginal", "joint")}
    tables: dict[str, list[dict[str, Any]]] = {"rows": [], "by_place": [], "by_unit": [], "by_time": []}
    for (advantage, order), truth in terms.items():
        claim, about = claims[advantage, order], {"advantage": advantage, "order": order}

        def part(where: Any) -> dict[str, Any]:
            return calibration.judge(claim, truth, seen.choice & where, own)  # noqa: B023

        for with_residual in (False, True) if residual is not None else (False,):
            value = claim + residual if with_residual else claim
            row = {**about, "residual": with_residual, **calibration.judge(value, truth, seen.choice, own)}
            if gradients is not None:
                row |= calibration.cosine(gradients, value, true.marginal)
                row |= calibration.signal_to_noise(gradients, value)
            tables["rows"].append(row)
        for name in dict.fromkeys(seen.unit.ravel().tolist()):
            tables["by_unit"].append({**about, "unit": name, **part(seen.unit == name)})
        for low, high in spans(seen.time):
            inside = ((seen.time >= low) & (seen.time <= high))[:, None]
            tables["by_time"].append({**about, "from": low, "to": high, **part(inside)})
        if advantage == "sequential":
            place = np.argsort(seen.turns[order], axis=-1)
            for i in range(place.shape[1]):
                tables["by_place"].append({"order": order, "place": i + 1, **part(place == i)})
    sizes = [
        {"term": name, "order": order, **calibration.size(found, seen.choice)}
        for (name, order), found in terms.items()
    ]
    if true.shapley is not None:
        sizes.append({"term": "shapley", "order": "", **calibration.size(true.shapley, seen.choice)})
    first = next(iter(seen.turns))
    value = {"mean": float(true.value.mean.mean()), "error": float(np.sqrt(np.mean(true.value.error**2)))}
    snr = None if gradients is None else calibration.signal_to_noise(gradients, *true.marginal.halves)
    return {
        "truth_rms": next(size["rms"] for size in sizes if size["order"] == first),
        "value": value,
        "truth": sizes,
        "truth_gradient": snr,
        **tables,
    }
