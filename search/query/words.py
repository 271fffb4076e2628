"""Words that several threads ask of one space at once: encoded together, and searched so where all else is the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from search.query.gathering import Gathering
from search.query.request import Options
from search.query.units import meant
from search.types import Hit
from search.vectors import Vectors

TOKENS = 2048  # encoded together for several askers: how long the last of them waits for the others


@dataclass(frozen=True, slots=True)
class Words:
    """One query in words."""

    words: str
    options: Options

    @property
    def meant(self) -> str:
        """The words as the text model should read them."""
        return meant(self.words) if self.options.hybrid else self.words


class WordsOfMany:
    """Answers words asked of one space by any number of threads."""

    def __init__(
        self,
        encode: Callable[[Sequence[str]], tuple[Vectors, float]],
        find: Callable[[Sequence[str], Vectors, Options, float], list[list[Hit]]],
        longest: int = TOKENS,
    ) -> None:
        """Nothing is asked yet.

        Args:
            encode: texts into queries (n, dim), and the seconds that it took.
            find: hits for words and what they were encoded to (n, dim), with the same options; the seconds are for
                `explain`.
            longest: the most tokens that the model sees of a query.
        """
        self._encode = encode
        self._find = find
        self._longest = longest
        self.gathering: Gathering[Words, list[Hit]] = Gathering(self._together, self._tokens, budget=TOKENS)

    def ask(self, words: str, options: Options) -> list[Hit]:
        """The hits.

        Raises:
            NearkinError: what this query failed by, or what all of them failed by.
        """
        return self.gathering.ask(Words(words, options))

    def _tokens(self, one: Words) -> int:
        """About how many tokens it has, rather more than it has."""
        return min(2 + len(one.words.encode("utf-8", "replace")) // 3, self._longest)

    def _together(self, asked: Sequence[Words]) -> list[list[Hit] | Exception]:
        """Hits for each, or what it failed by."""
        queries, encoding_s = self._encode([one.meant for one in asked])
        alike: dict[Options, list[int]] = {}
        for number, one in enumerate(asked):
            alike.setdefault(one.options, []).append(number)
        answers: dict[int, list[Hit] | Exception] = {}
        for options, numbers in alike.items():
            some: Sequence[list[Hit] | Exception]
            try:
                some = self._find(
                    [asked[number].words for number in numbers], queries[numbers], options, encoding_s
                )
            except Exception:  # noqa: BLE001 - of whom it was is seen when each is searched by itself
                some = [
                    self._found_or_error(asked[number], queries[[number]], encoding_s) for number in numbers
                ]
            answers |= zip(numbers, some, strict=True)
        return [answers[number] for number in range(len(asked))]

    def _found_or_error(self, asked: Words, query: Vectors, encoding_s: float) -> list[Hit] | Exception:
        try:
            return self._find([asked.words], query, asked.options, encoding_s)[0]
        except Exception as error:  # noqa: BLE001 - is raised where it was asked
            return error
