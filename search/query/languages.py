"""Languages whose words are looked for in all their forms: the stems of words, and words that tell nothing."""

from __future__ import annotations

from collections.abc import Sequence

from search.errors import QueryError

DEFAULT = "english"  # as the default model of texts
NONE = "none"  # words are looked for as they are written

# Snowball's algorithms (Porter 2001) by the name of their language.
LANGUAGES = tuple(
    "arabic armenian basque catalan danish dutch english finnish french german greek hindi hungarian indonesian irish "  # noqa: SIM905
    "italian lithuanian nepali norwegian portuguese romanian russian serbian spanish swedish tamil turkish "
    "yiddish".split()
)

# What holds a question in English together and is in almost every text: articles, pronouns, auxiliaries and such. Words
# of place (up, off, under) stay, as they may be what is meant.
_ENGLISH = frozenset(
    "a an the this that these those and or but nor if then than so as of at by for with from to in on into about "  # noqa: SIM905
    "i me my mine we us our ours you your yours he him his she her hers it its they them their theirs "
    "am is are was were be been being do does did doing done has have had having can could will would shall should may "
    "might must not no what which who whom whose when where why how there here such some any each all both "
    "anyone anything someone something also very just".split()
)


def checked(language: object) -> str:
    """The name of a language, or none.

    Raises:
        QueryError: there is no stemmer of this name.
    """
    if not isinstance(language, str) or (language != NONE and language not in LANGUAGES):
        raise QueryError(
            f"there is no language {language!r}; use {', '.join(LANGUAGES)}, or {NONE} for words as they are written"
        )
    return language


class Language:
    """Stems of one language. Not to be used by several threads at once, as the stemmer keeps what it did last."""

    def __init__(self, name: str) -> None:
        import Stemmer

        self.stop_words = _ENGLISH if name == "english" else frozenset[str]()
        self._stemmer = Stemmer.Stemmer(name)

    def stems(self, words: Sequence[str]) -> list[str]:
        """The stem of each word, given in small letters."""
        found: list[str] = self._stemmer.stemWords(list(words))
        return found
