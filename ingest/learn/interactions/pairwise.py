"""BPR and LightGCN: vectors by which what a user took ranks above what was not; on a processor or a GPU by torch."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ingest.learn.interactions.contract import Factors, FactorTrainer, Progress
from ingest.sources.interactions import Interactions
from search.errors import ModelError, SourceError
from search.query.personal import INTERACTIONS, LEARNED_FROM
from search.types import EncoderSpec, Json, Modality

if TYPE_CHECKING:
    import torch

    Tensor: TypeAlias = torch.Tensor
else:
    Tensor: TypeAlias = Any

_SPREAD = 0.1  # standard deviation of the first vectors, as in He et al. 2020


@dataclass(frozen=True, slots=True)
class PairwiseSettings:
    """How the vectors are learned; what is None is what did well for the method.

    `dim` numbers per vector; `layers` of propagation over the graph of users and items (0: plain BPR); `epochs` over
    all interactions, each in `batches` steps of Adam that begin at `rate` and end near 0; `decay` holds the vectors of
    each batch near 0. More interactions make larger batches, not more steps: a step costs as much as all vectors have
    numbers, and is worth it only if many of them move.
    """

    dim: int = 64
    layers: int = 0
    epochs: int = 60
    batches: int = 6
    rate: float = 0.02
    decay: float | None = None
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("dim", "epochs", "batches"):
            if getattr(self, name) < 1:
                raise ModelError(f"{name} is {getattr(self, name)}; give at least 1")
        if self.layers < 0:
            raise ModelError(f"layers is {self.layers}; give 0 or more")
        for name in ("rate", "decay"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} is {value}; give a number that is not negative")

    @property
    def held(self) -> float:
        """The decay that is taken: LightGCN's smoothing holds vectors back by itself, and BPR has nothing else."""
        return self.decay if self.decay is not None else 1e-3 if self.layers else 0.05


class Pairwise(FactorTrainer):
    """Bayesian personalised ranking (Rendle et al. 2009), over plain vectors or those of LightGCN (He et al. 2020).

    In LightGCN the vectors compared are the mean of the learned ones and of what `layers` rounds of averaging over the
    graph make of them. That map is linear and its own transpose, so gradients go back through it as vectors go forth;
    they are written out here, and no graph of operations is recorded. Weights do not count: a pair was taken or not.
    """

    def __init__(self, settings: PairwiseSettings) -> None:
        self.settings = settings
        family = "lightgcn" if settings.layers else "bpr"
        options: dict[str, Json] = {
            LEARNED_FROM: INTERACTIONS,
            "epochs": settings.epochs,
            "batches": settings.batches,
            "rate": settings.rate,
            "decay": settings.held,
            "seed": settings.seed,
        }
        if settings.layers:
            options["layers"] = settings.layers
        self.spec = EncoderSpec(family, family, Modality.GRAPH, settings.dim, options=options)

    def fit(self, interactions: Interactions, *, progress: Progress | None = None) -> Factors:
        """See the contract."""
        import torch

        told, n_pairs = self.settings, len(interactions.indices)
        if not n_pairs:
            raise SourceError("there is no interaction to learn from; give some")
        device = device_of(told.device)
        dice = torch.Generator(device=device).manual_seed(told.seed)
        pairs = Pairs(interactions, device)
        graph = propagation(interactions, told.layers, device) if told.layers else None
        n_users = interactions.n_users
        own = torch.randn(n_users + interactions.n_items, told.dim, generator=dice, device=device) * _SPREAD
        steps = _Adam(own, told.epochs * told.batches, told.rate)
        for epoch in range(told.epochs):
            triples = pairs.drawn(dice)
            for batch in torch.tensor_split(triples, told.batches, dim=1):
                if not batch.shape[1]:
                    continue
                seen = own if graph is None else graph(own)
                gradient = bpr_gradient(seen, batch)
                if graph is not None:
                    gradient = graph(gradient)
                add_decay(gradient, own, batch, told.held)
                steps.step(gradient)
            if progress is not None:
                progress(epoch + 1, told.epochs)
        made = (own if graph is None else graph(own)).cpu().numpy()
        return Factors(np.ascontiguousarray(made[:n_users]), np.ascontiguousarray(made[n_users:]))


def device_of(name: str) -> torch.device:
    """The device of this name.

    Raises:
        ModelError: there is none, or it is not on this machine.
    """
    import torch

    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:  # what torch raises depends on how it was built
        raise ModelError(
            f"device {name!r} cannot be used here ({str(error).splitlines()[0]}); use cpu"
        ) from error
    return device


class Pairs:
    """The interactions on a device, to draw what is compared from; items are numbered after the users."""

    def __init__(self, interactions: Interactions, device: torch.device) -> None:
        import torch

        self.n_users, self.n_items = interactions.n_users, interactions.n_items
        self.users = torch.from_numpy(interactions.users.astype(np.int64)).to(device)
        self.items = torch.from_numpy(interactions.indices.astype(np.int64)).to(device)
        self.keys = self.users * self.n_items + self.items  # ascending, as users are, and items within each

    def drawn(self, dice: torch.Generator) -> Tensor:
        """Each interaction once in a random order, each with an item that its user did not take: (3, n) int64.

        An item that was taken is drawn once more; where that fails too, the pair is left out this time.
        """
        import torch

        order = torch.randperm(len(self.users), generator=dice, device=self.users.device)
        users, items = self.users[order], self.items[order]
        others = self._other(users, dice)
        taken = self._taken(users, others)
        others = torch.where(taken, self._other(users, dice), others)
        fine = ~(taken & self._taken(users, others))
        drawn: Tensor = torch.stack([users, items + self.n_users, others + self.n_users])[:, fine]
        return drawn

    def _other(self, users: Tensor, dice: torch.Generator) -> Tensor:
        import torch

        return torch.randint(self.n_items, users.shape, generator=dice, device=users.device)

    def _taken(self, users: Tensor, items: Tensor) -> Tensor:
        import torch

        sought = users * self.n_items + items
        at = torch.searchsorted(self.keys, sought).clamp_(max=len(self.keys) - 1)
        return self.keys[at] == sought


def bpr_gradient(vectors: Tensor, triples: Tensor) -> Tensor:
    """The gradient (n, dim) of the mean over `triples` (3, m) of -log sigmoid(user . item - user . other).

    Rendle et al. 2009, sec. 4.3.1. A triple holds the rows of a user, of an item taken and of one that was not.
    """
    import torch

    users, items, others = (vectors[rows] for rows in triples)
    apart = items - others
    slope = torch.sigmoid(-(users * apart).sum(dim=1, keepdim=True)) / (-triples.shape[1])
    towards = users * slope
    gradient = torch.zeros_like(vectors)
    moved = torch.cat([apart * slope, towards, -towards])
    return gradient.index_add_(0, triples.reshape(-1), moved)


def add_decay(gradient: Tensor, own: Tensor, triples: Tensor, decay: float) -> None:
    """Add the gradient of decay / 2 times the mean over `triples` of the squared lengths of their three vectors."""
    import torch

    times = torch.bincount(triples.reshape(-1), minlength=len(own)).to(own.dtype)
    gradient.addcmul_(own, times[:, None], value=decay / triples.shape[1])


class propagation:  # noqa: N801 - a function that keeps its matrix
    """The mean of vectors (n_users + n_items, dim) and of them smoothed 1 to `layers` times (He et al. 2020, eq. 7).

    To smooth is to multiply by D^-1/2 A D^-1/2, A the adjacency of users and items, D their degrees.
    """

    def __init__(self, interactions: Interactions, layers: int, device: torch.device) -> None:
        import torch
        from scipy import sparse

        taken = interactions.matrix().copy()
        taken.data = np.ones(len(taken.data), np.float32)
        both = sparse.bmat([[None, taken], [taken.T, None]], format="csr", dtype=np.float32)
        degree = np.maximum(np.asarray(both.sum(axis=1)).ravel(), 1) ** -0.5
        both = (sparse.diags(degree) @ both @ sparse.diags(degree)).tocsr().astype(np.float32)
        index = np.int32 if device.type == "cpu" else np.int64
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Sparse", UserWarning
            )  # that compressed rows are a beta feature
            self._matrix = torch.sparse_csr_tensor(
                torch.from_numpy(both.indptr.astype(index)),
                torch.from_numpy(both.indices.astype(index)),
                torch.from_numpy(both.data),
                size=both.shape,
                check_invariants=True,
            ).to(device)
        self._layers = layers

    def __call__(self, vectors: Tensor) -> Tensor:
        smooth = total = vectors
        for _ in range(self._layers):
            smooth = self._matrix @ smooth
            total = total + smooth
        return total / (self._layers + 1)


class _Adam:
    """Adam (Kingma & Ba 2015) in torch's fused form, with a rate that falls along half a cosine."""

    def __init__(self, parameter: Tensor, n_steps: int, rate: float) -> None:
        import torch

        self._parameter, self._rate, self._n, self._done = parameter, rate, n_steps, 0
        self._adam = torch.optim.Adam([parameter], lr=rate, fused=True)

    def step(self, gradient: Tensor) -> None:
        """Take a step against the gradient."""
        share = self._done / self._n
        self._adam.param_groups[0]["lr"] = self._rate * (1 + math.cos(math.pi * share)) / 2
        self._parameter.grad = gradient
        self._adam.step()
        self._done += 1
