"""Another model for a space, while it goes on being asked: filled beside it, compared, and switched in one commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ingest.report import Options, write_rejects
from ingest.sources.contract import Rejected
from ingest.verbs.opening import DEFAULT, opened
from ingest.verbs.refilling import CUT, Refill, cutting, cutting_again, refilled
from search.catalog.neighbours import CONTEXTUAL_WORDS
from search.collection import Collection
from search.encoders import load, probes
from search.encoders.contract import Encoder
from search.encoders.load import PUBLISHED, ModelChoice
from search.errors import CollectionError, ModelError, UnknownSpace
from search.types import NEXT, OLD, Json, Modality, Space

if TYPE_CHECKING:
    from search.evaluate.labelled import Evaluation
    from search.evaluate.unlabelled import Unlabelled

_CUT = 10  # the rank at which judged queries are compared
_LEVEL = 0.05
_ROUNDS = 5  # of filling while others may write; what then is left is filled while they wait


@dataclass(frozen=True, slots=True)
class Comparing:
    """How the two models are compared before the names are exchanged.

    `queries` and `judgements` are files (or what they hold) as `Collection.evaluate` takes them; without them, and
    beside them, `sample` records are asked about. With `compare` False nothing is. With `accept` the names are
    exchanged though the new model is worse by more than chance; with `switch` False they never are.
    """

    compare: bool = True
    queries: str | Path | None = None
    judgements: str | Path | None = None
    sample: int = 200
    seed: int = 0
    accept: bool = False
    switch: bool = True

    def __post_init__(self) -> None:
        if (self.queries is None) != (self.judgements is None):
            raise ModelError("queries and judgements belong together; give both, or neither")
        if self.queries is not None and not self.compare:
            raise ModelError(
                "judged queries were given and nothing is to be compared; leave out one of the two"
            )
        if self.accept and not self.switch:
            raise ModelError("what is worse is accepted by switching; leave out one of the two")


@dataclass(frozen=True, slots=True)
class Migration:
    """What came of a change of model.

    `filled` records were encoded in this run, `rejected` could not be. `compared` is what the new space says of
    itself beside the old, `judged` how it answers judged queries beside it; `not_compared` says why not. `worse` names
    what is worse by more than chance. `switched` tells whether the space has the new model now.
    """

    space: str
    before: str
    model: str
    filled: int
    rejected: int
    switched: bool
    seconds: float
    rejects_file: str | None = None
    rejects: tuple[str, ...] = ()
    compared: Unlabelled | None = None
    judged: Evaluation | None = None
    not_compared: str | None = None
    worse: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, Json]:
        """The fields as a JSON object."""
        return {
            "space": self.space,
            "before": self.before,
            "model": self.model,
            "filled": self.filled,
            "rejected": self.rejected,
            "switched": self.switched,
            "seconds": round(self.seconds, 3),
            "rejects_file": self.rejects_file,
            "rejects": list(self.rejects),
            "compared": None if self.compared is None else self.compared.to_json(),
            "judged": None if self.judged is None else self.judged.to_json(),
            "not_compared": self.not_compared,
            "worse": list(self.worse),
        }


def migrate(
    collection: Collection | str | Path,
    space: str,
    model: str,
    *,
    choice: ModelChoice = PUBLISHED,
    comparing: Comparing = Comparing(),
    allow_missing: bool = False,
    options: Options = DEFAULT,
) -> Migration:
    """Let another model make the vectors of a space, from what the collection holds; readers are answered meanwhile.

    They are made in a space beside it, SPACE@next, in many commits, so that a run which was killed goes on. Then the
    two are compared, and if the new one is not worse their names are exchanged in one commit: the old one stays as
    SPACE@old, and `migrate_back` is the way back.

    Args:
        collection: an open collection, or the path of one.
        space: a space of texts (by passages) or of pictures.
        model: as `ingest.text` or `ingest.images` takes it.
        choice: what else is to be said of the model.
        comparing: how the two are compared.
        allow_missing: exchange the names though some records could not be encoded, and lack a vector then.
        options: device, precision, passage length (None is that of the vectors there), progress.

    Raises:
        UnknownSpace: there is no such space.
        ModelError: the model cannot be had, does not take what the space holds, or made it already.
        CollectionError: another migration is under way or its old space still there; another process is writing.
    """
    with opened(collection) as there:
        assert there is not None
        before = _source(there, space)
        encoder = load.load_named(model, choice, device=load.Device(options.device, options.precision))
        _check_fits(before, encoder)
        _check_free(there, before, encoder)

        def target() -> Space:
            known = there.spaces().get(f"{space}{NEXT}")
            probed = probes.probe(encoder) if known is None else None
            with there.writing() as writer:
                with writer.together():
                    made = writer.space(f"{space}{NEXT}", encoder.spec, metric=before.metric, probes=probed)
                    if known is None:
                        writer.wish_alike(made, before)
                        if before.modality is Modality.TEXT:
                            writer.note(made, CUT, str(cutting(there, before, options).lengths))
                return made

        return _Run(there, before, encoder, comparing, options, allow_missing=allow_missing).done(target)


def migrate_back(
    collection: Collection | str | Path,
    space: str,
    *,
    comparing: Comparing = Comparing(compare=False),
    allow_missing: bool = False,
    options: Options = DEFAULT,
) -> Migration:
    """Let a space have its old model again, and the present one be SPACE@old, in one commit.

    What came into the space since is first encoded by the old model.

    Raises:
        UnknownSpace: there is no such space, or no old one.
        ModelError: something has to be encoded and the old model cannot be had.
    """
    with opened(collection) as there:
        assert there is not None
        before = _source(there, space)
        old = _beside(there, space, OLD)
        return _Run(there, before, None, comparing, options, allow_missing=allow_missing).done(lambda: old)


def migrate_drop(collection: Collection | str | Path, space: str) -> tuple[str, int]:
    """Drop what a migration left beside a space: the old one, or what was filled of a new one that was given up.

    Returns:
        The name of the space dropped, and how many vectors it had.

    Raises:
        UnknownSpace: there is nothing beside it.
    """
    with opened(collection) as there:
        assert there is not None
        with there.writing() as writer:
            known = there.spaces()
            found = known.get(f"{space}{NEXT}") or known.get(f"{space}{OLD}")
            if found is None:
                raise UnknownSpace(f"nothing stands beside space '{space}'; look with: nearkin info")
            return found.name, writer.drop_space(found)


def _source(there: Collection, name: str) -> Space:
    spaces = there.spaces()
    if name not in spaces:
        raise UnknownSpace(
            f"there is no space '{name}' (there are: {', '.join(spaces) or 'none yet'}); name one of them"
        )
    found = spaces[name]
    if found.stands_for is not None:
        raise ModelError(f"space '{name}' stands beside '{found.stands_for}'; name that one")
    if found.modality not in (Modality.TEXT, Modality.IMAGE) or found.encoder.family == CONTEXTUAL_WORDS:
        raise ModelError(
            f"space '{name}' ({found.encoder.model}) was not made of texts by passages, nor of pictures; "
            "ingest it anew with --space"
        )
    return found


def _beside(there: Collection, name: str, ending: str) -> Space:
    found = there.spaces().get(f"{name}{ending}")
    if found is None:
        raise UnknownSpace(f"there is no space '{name}{ending}' to go back to; look with: nearkin info")
    return found


def _check_fits(before: Space, encoder: Encoder) -> None:
    if encoder.spec.modality is not before.modality:
        raise ModelError(
            f"space '{before.name}' holds {before.modality} vectors, and '{encoder.spec.model}' is a model for "
            f"{encoder.spec.modality}; name another"
        )
    if encoder.spec == before.encoder:
        raise ModelError(
            f"space '{before.name}' was made by '{encoder.spec.model}' already; name another model"
        )


def _check_free(there: Collection, before: Space, encoder: Encoder) -> None:
    """Refuse where the names that are needed are taken by something else."""
    spaces = there.spaces()
    if f"{before.name}{OLD}" in spaces:
        raise CollectionError(
            f"space '{before.name}{OLD}' of the last change is still there; drop it with: "
            f"nearkin migrate --space {before.name} --drop"
        )
    filling = spaces.get(f"{before.name}{NEXT}")
    if filling is not None and filling.encoder != encoder.spec:
        raise CollectionError(
            f"a change of space '{before.name}' to {filling.encoder.model} is under way; go on with that model, or "
            f"give it up with: nearkin migrate --space {before.name} --drop"
        )


@dataclass(frozen=True, slots=True)
class _Run:
    """One change of model: from the space as it is to the one that `done` is given."""

    there: Collection
    before: Space
    encoder: Encoder | None  # None is that of the target, if anything has to be encoded
    comparing: Comparing
    options: Options
    allow_missing: bool

    def done(self, target_of: Callable[[], Space]) -> Migration:
        started = time.perf_counter()
        target = target_of()
        encoder = self.encoder
        lengths = cutting(self.there, self.before, self.options)
        if target.name.endswith(NEXT):
            lengths = cutting_again(self.there, target, self.options, lengths)
        refill = Refill(
            self.there,
            self.before,
            target,
            lambda: encoder if encoder is not None else self.there.encoder(target.name),
            lengths,
            self.options.progress,
        )
        filled = 0
        rejected: dict[str, Rejected] = {}
        for _ in range(_ROUNDS):
            n = refilled(refill, rejected)
            filled += n
            if not n:
                break
        self.there.index(self.options.progress.reached)
        result = Migration(
            self.before.name,
            self.before.encoder.model,
            target.encoder.model,
            filled,
            0,
            switched=False,
            seconds=0,
        )
        if self.comparing.compare:
            result = self._compared(result, target)
        late, switched = self._switched(refill, rejected, worse=bool(result.worse))
        file = None
        if rejected:
            file = str(write_rejects(self.there.layout.rejects, self.before.name, list(rejected.values())))
        return replace(
            result,
            filled=filled + late,
            rejected=len(rejected),
            switched=switched,
            seconds=time.perf_counter() - started,
            rejects_file=file,
            rejects=tuple(one.said() for one in list(rejected.values())[:10]),
        )

    def _compared(self, result: Migration, target: Space) -> Migration:
        wanted = self.comparing
        try:
            itself = self.there.compare_itself(
                target.name, self.before.name, sample=wanted.sample, seed=wanted.seed
            )
            judged = None
            if wanted.queries is not None and wanted.judgements is not None:
                former = self.there.evaluate(
                    wanted.queries, wanted.judgements, k=_CUT, space=self.before.name
                )
                judged = self.there.evaluate(
                    wanted.queries, wanted.judgements, k=_CUT, space=target.name, compare=former.run
                )
        except ModelError as error:  # the old one may be gone, which is a reason to leave it
            return replace(result, not_compared=str(error))
        except UnknownSpace as error:  # there is nothing in one of them
            return replace(result, not_compared=str(error))
        worse = list(itself.worse)
        if judged is not None:
            ndcg = judged.compared[f"ndcg@{_CUT}"]
            if ndcg.difference < 0 and ndcg.p_worse < _LEVEL:
                worse.append(f"ndcg@{_CUT}")
        return replace(result, compared=itself, judged=judged, worse=tuple(worse))

    def _switched(self, refill: Refill, rejected: dict[str, Rejected], *, worse: bool) -> tuple[int, bool]:
        """Exchange the names, unless something speaks against it; what was filled at last, and whether it was done."""
        if not self.comparing.switch or (worse and not self.comparing.accept):
            return 0, False
        with self.there.writing() as writer:
            late = refilled(refill, rejected)  # what others wrote meanwhile
            if rejected and not self.allow_missing:
                return late, False
            writer.take_over(self.before, refill.target)
        return late, True
