"""Random walks in torch, all on one device: the same walks as the compiled ones, number for number."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ingest.learn.nodes.contract import Graph
from ingest.learn.nodes.transitions import END, PATIENCE
from ingest.learn.nodes.walks import Walker, WalkSettings

ROUNDS = 16  # proposals between two looks at which walks have ended: a look waits for the device
_GAMMA = 0x9E3779B97F4A7C15
_MIX1 = 0xBF58476D1CE4E5B9
_MIX2 = 0x94D049BB133111EB
_LOW = 0xFFFFFFFF
_UNIT = 2.0**-53
_EXACT = 2.0**36  # parts of the greatest that exact chances are rounded to


def _signed(value: int) -> int:
    """The 64-bit number with the same bits in two's complement; torch multiplies int64 modulo 2**64."""
    value %= 1 << 64
    return value - (1 << 64) if value >> 63 else value


def _shifted(value: torch.Tensor, bits: int) -> torch.Tensor:
    """A logical shift to the right; that of torch repeats the sign."""
    return (value >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def mixed(state: torch.Tensor) -> torch.Tensor:
    """64 random bits from each counter, int64 (`chance.mixed`)."""
    state = _shifted(state, 30).bitwise_xor_(state).mul_(_signed(_MIX1))
    state = _shifted(state, 27).bitwise_xor_(state).mul_(_signed(_MIX2))
    return _shifted(state, 31).bitwise_xor_(state)


def _mixed_number(state: int) -> int:
    state %= 1 << 64
    state = (state ^ (state >> 30)) * _MIX1 % (1 << 64)
    state = (state ^ (state >> 27)) * _MIX2 % (1 << 64)
    return state ^ (state >> 31)


def streams(seed: int, numbers: torch.Tensor) -> torch.Tensor:
    """The first counter of the random stream of each of these int64 numbers (`chance.stream`)."""
    return mixed((numbers * _signed(_GAMMA) + 1) ^ _signed(_mixed_number(seed + _GAMMA)))


def counted(states: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """64 random bits of each stream at each place: (n,) and (m,) give (n, m), int64."""
    return mixed(states[:, None] + places * _signed(_GAMMA))


def units(bits: torch.Tensor) -> torch.Tensor:
    """Numbers in [0, 1), float64, from 64 random bits."""
    return _shifted(bits, 11).double() * _UNIT


def below(bits: torch.Tensor, bound: torch.Tensor | int) -> torch.Tensor:
    """Whole numbers in [0, bound), from the upper half of 64 random bits; bound under 2**31."""
    return (_shifted(bits, 32) * bound) >> 32


class TorchWalker:
    """Takes the walks of a graph on a torch device, any stretch of them at a time.

    Walk `w` depends on the graph, the settings and `w` only, and is the walk that `Walker` takes. The graph lies
    on the device: 12 bytes an edge (two for an undirected one), 8 more for second-order walks, 12 more if weighted.

    Args:
        graph: in compressed rows.
        settings: how walks are taken.
        device: where.
    """

    def __init__(self, graph: Graph, settings: WalkSettings, device: torch.device) -> None:
        self.settings = settings
        self.device = device
        self._host = host = Walker(graph, settings)
        self.n_walks, self.n_nodes = host.n_walks, graph.n_nodes
        rows = host.rows
        self._directed, self._weighted = rows.directed, len(rows.weights) > 0
        self._indptr = self._moved(rows.indptr)
        self._indices = self._moved(rows.indices)
        self._ends = bool((np.diff(rows.indptr) == 0).any())  # whether a walk may end early
        if self._weighted:
            self._accept = self._moved(rows.accept.astype(np.int64))
            self._alias = self._moved(rows.alias)
            self._weights = self._moved(rows.weights)
            self._totals = self._moved(rows.totals)
        self._thresholds = self._moved(rows.thresholds)
        if settings.second_order:
            owners = torch.arange(graph.n_nodes, device=device).repeat_interleave(self._indptr.diff())
            self._edges = owners.mul_(graph.n_nodes).add_(self._indices)  # ascending, as rows are

    def _moved(self, array: NDArray[np.generic]) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def walk(self, first: int, count: int) -> torch.Tensor:
        """Walks `first` to `first + count - 1`: (count, length) int32 node numbers; -1 after a dead end."""
        starts = self._moved(self._host.starts(first, count))
        states = streams(self.settings.seed, torch.arange(first, first + count, device=self.device))
        if self.settings.second_order:
            return self._second_order(starts, states)
        return self._first_order(starts, states)

    def _proposed(self, at: torch.Tensor, bits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """A neighbour of each node drawn by weight (END where there is none), and the degree of each node."""
        low = self._indptr.index_select(0, at)
        degree = self._indptr.index_select(0, at + 1).sub_(low)
        place = below(bits, degree).add_(low)
        if self._ends:
            place.clamp_(max=len(self._indices) - 1)
        if self._weighted:
            other = self._alias.index_select(0, place) + low
            place = torch.where((bits & _LOW) > self._accept.index_select(0, place), other, place)
        to = self._indices.index_select(0, place)
        return (torch.where(degree > 0, to, END) if self._ends else to), degree

    def _first_order(self, at: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        out = torch.empty((self.settings.length, len(at)), dtype=torch.int32, device=self.device)
        out[0] = at
        for step in range(1, self.settings.length):
            states += _signed(_GAMMA)
            out[step], _ = self._proposed(at, mixed(states))
            at = torch.where(out[step] == END, at, out[step]) if self._ends else out[step]
        return out.t().contiguous()

    def _second_order(self, at: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        """By rejection, as `transitions.second_order` does; a walk that rejects tries again in the next round."""
        length = self.settings.length
        # What is proposed is written down at once, and over what was rejected; ended walks write behind the last.
        out = torch.full((len(at), length + 1), END, dtype=torch.int32, device=self.device)
        out[:, 0] = at
        walks = torch.arange(len(at), device=self.device) * (length + 1)
        lanes = {
            "walk": walks,
            "step": torch.ones_like(walks),
            "refused": torch.zeros_like(walks),
            "state": states,
            "odds": torch.zeros(len(at), dtype=torch.float64, device=self.device),
            "at": at,
            "before": torch.full_like(at, END),
        }
        rounds = 0
        while len(lanes["walk"]) > 0:
            for _ in range(ROUNDS):
                self._round(lanes, out, rounds)
                rounds += 1
            going = (lanes["step"] < length).nonzero().squeeze(1)
            lanes = {name: values.index_select(0, going) for name, values in lanes.items()}
        return out[:, :length].contiguous()

    def _round(self, lanes: dict[str, torch.Tensor], out: torch.Tensor, rounds: int) -> None:
        """One proposal for each lane, kept or not."""
        state, node, came, step = lanes["state"], lanes["at"], lanes["before"], lanes["step"]
        state += _signed(_GAMMA)
        to, degree = self._proposed(node, mixed(state))
        asked = (came != END) & (degree > 1)
        state += asked * _signed(_GAMMA)
        unit, odds = units(mixed(state)), lanes["odds"]
        returns = asked & (unit < odds)
        keep = ~asked | returns | self._kept(came, node, to, (unit - odds) / (1.0 - odds))
        to = torch.where(returns, came, to)
        if rounds > PATIENCE:  # nobody was rejected so often before
            stuck = asked & ~returns & (lanes["refused"] >= degree + PATIENCE) & (step < self.settings.length)
            who = stuck.nonzero().squeeze(1)
            if len(who) > 0:
                state[who] += _signed(_GAMMA)
                to[who] = self._exact_steps(came[who], node[who], units(mixed(state[who])))
                keep |= stuck
        out.view(-1)[lanes["walk"] + step] = to
        moved = keep & (to != END)
        lanes["refused"] = torch.where(keep, 0, lanes["refused"] + 1)
        lanes["step"] = torch.where(to == END, self.settings.length, step + keep).clamp_(
            max=self.settings.length
        )
        lanes["before"], lanes["at"] = torch.where(moved, node, came), torch.where(moved, to, node)
        if self._host.excess > 0.0:
            lanes["odds"] = torch.where(moved, self._odds(node, to.clamp(min=0)), odds)

    def _edge(self, source: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Whether an edge leads from each source to its target, and where it stands among all edges."""
        key = source.long() * self.n_nodes + target
        place = torch.searchsorted(self._edges, key).clamp_(max=len(self._edges) - 1)
        return self._edges.index_select(0, place) == key, place

    def _biases(self, before: torch.Tensor, at: torch.Tensor, node: torch.Tensor) -> torch.Tensor:
        """The search bias of each step from `at` to `node`, float64 (`transitions._bias`)."""
        back, near, away = self._host.biases.tolist()
        there, place = self._edge(before, node)
        if len(self._thresholds) == 0:
            bias = torch.where(there, near, away).double()
        else:
            under, weight = self._thresholds.index_select(0, node), self._weights.index_select(0, place)
            strength = torch.where(there & (under > 0), weight / under, 0.0)
            own = self._weights.index_select(0, self._edge(at, node)[1])
            weak = own < self._thresholds.index_select(0, at)
            bias = torch.where(weak, min(near, away), away + (near - away) * strength)
            bias = torch.where(there & (weight >= under), near, bias)
        return torch.where(node == before, back, bias)

    def _kept(
        self, before: torch.Tensor, at: torch.Tensor, node: torch.Tensor, unit: torch.Tensor
    ) -> torch.Tensor:
        return unit < self._biases(before, at, node)

    def _odds(self, before: torch.Tensor, node: torch.Tensor) -> torch.Tensor:
        """The chance that a step goes back at once (`transitions._odds`)."""
        excess = self._host.excess
        if not (self._directed or self._weighted):
            degree = self._indptr.index_select(0, node + 1) - self._indptr.index_select(0, node)
            return excess / (degree.double() + excess)
        there, place = self._edge(node, before)
        if self._weighted:
            back = self._weights.index_select(0, place).double()
            total = self._totals.index_select(0, node)
        else:
            back = torch.ones_like(place, dtype=torch.float64)
            total = (self._indptr.index_select(0, node + 1) - self._indptr.index_select(0, node)).double()
        return torch.where(there, excess * back / (total + excess * back), 0.0)

    def _exact_steps(self, before: torch.Tensor, node: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """The next node of each lane drawn from the exact distribution; O(degree), where rejection takes too long.

        Chances are summed as whole numbers, as a sum of floats on a GPU depends on its order.
        """
        low = self._indptr.index_select(0, node)
        degree = self._indptr.index_select(0, node + 1) - low
        ends = degree.cumsum(0)
        lane = torch.arange(len(node), device=self.device).repeat_interleave(degree)
        place = torch.arange(len(lane), device=self.device) - (ends - degree)[lane] + low[lane]
        to = self._indices.index_select(0, place)
        chance = self._biases(before[lane], node[lane], to)
        chance = torch.where(to == before[lane], chance + self._host.excess, chance)
        if self._weighted:
            chance = chance * self._weights.index_select(0, place)
        greatest = torch.zeros_like(unit).scatter_reduce_(0, lane, chance, "amax")
        reached = (chance / greatest[lane] * _EXACT).long().cumsum(0)
        high = reached[ends - 1]
        begin = torch.cat([high.new_zeros(1), high[:-1]])
        wanted = begin + (unit * (high - begin)).long()
        found = torch.searchsorted(reached, wanted, right=True)
        return to[torch.minimum(found, ends - 1)]
