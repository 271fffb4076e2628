"""What a space says of its own quality without any judgement, and whether it has become worse."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from search.evaluate import significance
from search.evaluate.significance import Difference, Interval
from search.types import EncoderSpec, Json

# What is measured of each sampled record, from 0 to 1, higher is better.
MEASURES = {
    "known_item": "a sentence of the text finds it (1 / rank, 0 beyond 10)",
    "perturbed": "the same with typing errors and words left out, or the picture cropped and mirrored, finds it",
    "stability": "share of the 10 hits that stay when the query is so perturbed",
    "held_out": "one of its passages finds it by the others (1 / rank, 0 beyond 10)",
    "mutual": "share of its 10 nearest that have it among their 10 nearest",
    "index_recall": "share of the 10 nearest that the index finds, against exact search",
}
# By these an alarm sounds: they know the right answer. A model that takes all things for the same has the steadiest
# hits and neighbours of all.
JUDGED = ("known_item", "perturbed", "held_out", "index_recall")
_LEVEL = 0.05  # below which a corrected p is taken for a change for the worse


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """How good a space is by its own records.

    `values` has for each of `MEASURES` that applies the value of each sampled record by its id, and `measures` the
    means with their 95% intervals. `compared` has the difference to the evaluation that was stored before (of
    `before_at`), on the records that are in both samples, `changed` says what is not as it was then (model, index,
    records), and `worse` which of `JUDGED` have become worse by more than chance (one-sided randomisation test,
    corrected by Holm, 5%).
    """

    space: str
    encoder: EncoderSpec
    index: Mapping[str, Json]
    n_records: int
    seed: int
    measured_at: str
    values: Mapping[str, Mapping[str, float]]
    before_at: str | None = None
    changed: tuple[str, ...] = ()
    compared: Mapping[str, Difference] = field(default_factory=dict)
    worse: tuple[str, ...] = ()

    @property
    def measures(self) -> dict[str, Interval]:
        """The means over the sampled records."""
        return {name: significance.interval(list(one.values())) for name, one in self.values.items()}

    def stored(self) -> dict[str, Json]:
        """What is kept to compare with: a JSON object that `from_json` takes back."""
        return {
            "space": self.space,
            "encoder": self.encoder.to_json(),
            "index": dict(self.index),
            "n_records": self.n_records,
            "seed": self.seed,
            "measured_at": self.measured_at,
            "values": {name: dict(one) for name, one in self.values.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Unlabelled:
        """What `stored` gave."""
        return cls(
            space=str(data["space"]),
            encoder=EncoderSpec.from_json(data["encoder"]),
            index=dict(data["index"]),
            n_records=int(data["n_records"]),
            seed=int(data["seed"]),
            measured_at=str(data["measured_at"]),
            values={
                str(name): {str(id): float(value) for id, value in one.items()}
                for name, one in data["values"].items()
            },
        )

    def to_json(self) -> dict[str, Json]:
        """For people and programs: means, and what has changed."""
        return {
            "space": self.space,
            "model": self.encoder.model,
            "index": dict(self.index),
            "records": self.n_records,
            "seed": self.seed,
            "measured_at": self.measured_at,
            "measures": {
                name: asdict(one) | {"n": len(self.values[name])} for name, one in self.measures.items()
            },
            "before_at": self.before_at,
            "changed": list(self.changed),
            "compared": {name: one.to_json() for name, one in self.compared.items()},
            "worse": list(self.worse),
        }


def against(now: Unlabelled, before: Unlabelled) -> Unlabelled:
    """The evaluation with what differs from an earlier one, or one of another space with the same records.

    Nothing is compared where the seeds differ: the queries were others.
    """
    changed = tuple(
        what
        for what, differs in (
            ("model", now.encoder != before.encoder),
            ("index", dict(now.index) != dict(before.index)),
            ("records", now.n_records != before.n_records),
        )
        if differs
    )
    compared: dict[str, Difference] = {}
    if now.seed == before.seed:
        for name, values in now.values.items():
            former = before.values.get(name, {})
            both = [id for id in values if id in former]
            if both:
                compared[name] = significance.difference(
                    np.array([values[id] for id in both]), np.array([former[id] for id in both])
                )
    judged = [name for name in JUDGED if name in compared]
    corrected = significance.holm([compared[name].p_worse for name in judged])
    worse = tuple(
        name
        for name, p in zip(judged, corrected, strict=True)
        if compared[name].difference < 0 and p < _LEVEL
    )
    return replace(now, before_at=before.measured_at, changed=changed, compared=compared, worse=worse)
