"""The words of the records' texts, in an FTS5 table that each commit keeps in step (read by `occurrences`)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from search.catalog.database import Database, Transaction

_TOKENS = "unicode61 remove_diacritics 2"
TABLES = (
    # Without the texts, which stand in `record`: it holds the words alone.
    f"create virtual table word using fts5 (text, content = '', tokenize = '{_TOKENS}')",
    "create virtual table word_count using fts5vocab (word, 'row')",
    # Words of a commit are gathered in so many bytes before they are sorted into the table: 1 MB, FTS5's own measure,
    # makes a large commit sort and merge them again and again (twice the time for 10,000 short texts).
    "insert into word (word, rank) values ('hashsize', 16777216)",
)
# The same for a few texts in memory, which it holds itself; and to cut queries into words.
IN_MEMORY = (
    f"create virtual table word using fts5 (text, tokenize = '{_TOKENS}')",
    "create virtual table word_count using fts5vocab (word, 'row')",
    f"create virtual table asked using fts5 (text, tokenize = '{_TOKENS}')",
    "create virtual table asked_at using fts5vocab (asked, 'instance')",
)
_SHADOWS = ("data", "idx", "docsize", "config")  # the tables in which FTS5 keeps an index
_AT_ONCE = 5_000  # records read together

# Scripts written without blanks between words, or (Hangul) with endings that cling to them.
UNSPACED = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f\u1780-\u17ff"  # Burmese, Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f"  # Japanese syllables
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"  # Han
    "\uac00-\ud7af"  # Hangul
)
_UNSPACED = re.compile(f"[{UNSPACED}]")


def spaced(text: str) -> str:
    """The text with a blank around each character of a script that has none: its words are single characters.

    So any stretch of them is found as a phrase, however long its words are.
    """
    return text if text.isascii() else _UNSPACED.sub(r" \g<0> ", text)


def lay_out(transaction: Transaction) -> None:
    """Make the tables and fill them from the records that are there."""
    for statement in TABLES:
        transaction.sql(statement)
    for rows in _texts(transaction):
        add(transaction, rows)


def add(transaction: Transaction, texts: Iterable[tuple[int, str | None]]) -> None:
    """Take in the texts of these records, by their keys; none of them is there yet."""
    rows = [(key, spaced(text)) for key, text in texts if text]
    if rows:
        transaction.many("insert into word (rowid, text) values (?, ?)", rows)


def drop(transaction: Transaction, texts: Iterable[tuple[int, str | None]]) -> None:
    """Forget the texts of these records, each given as it was taken in."""
    rows = [(key, spaced(text)) for key, text in texts if text]
    if rows:
        transaction.many("insert into word (word, rowid, text) values ('delete', ?, ?)", rows)


def drop_all_of(transaction: Transaction, condition: str, values: Sequence[object]) -> None:
    """Forget the texts of the records that are about to be deleted: those that meet an SQL condition on `record`."""
    drop(
        transaction,
        transaction.sql(
            f"select key, text from record where text is not null and {condition}",  # noqa: S608 - ours
            values,
        ).fetchall(),
    )


def _texts(transaction: Transaction) -> Iterator[list[tuple[int, str]]]:
    last = 0
    while rows := transaction.sql(
        "select key, text from record where text is not null and text <> '' and key > ? order by key limit ?",
        (last, _AT_ONCE),
    ).fetchall():
        yield rows
        last = rows[-1][0]


def problems(database: Database) -> list[str]:
    """Whether the index holds what the texts hold: one line if it does not.

    FTS5 compares only by writing, so a copy of the index is made in a temporary file, with the texts beside it.
    """
    connection = database.connect()
    try:
        connection.execute("pragma temp_store = file")
        connection.execute("begin")
        transaction = Transaction(connection)
        for statement in (
            "create temp table said (key integer primary key, text text)",
            (
                "create virtual table temp.compared using fts5 "
                f"(text, content = 'said', content_rowid = 'key', tokenize = '{_TOKENS}')"
            ),
        ):
            transaction.sql(statement)
        for rows in _texts(transaction):
            transaction.many("insert into said values (?, ?)", [(key, spaced(text)) for key, text in rows])
        for shadow in _SHADOWS:
            transaction.sql(f"delete from temp.compared_{shadow}")  # noqa: S608 - ours
            transaction.sql(f"insert into temp.compared_{shadow} select * from main.word_{shadow}")  # noqa: S608 - ours
        transaction.sql("insert into compared (compared, rank) values ('integrity-check', 1)")
    except sqlite3.DatabaseError as error:
        return [f"the index of words is damaged ({error}); build it anew with: nearkin compact"]
    finally:
        connection.close()
    return []


def repair(transaction: Transaction, *, damaged: bool) -> None:
    """Gather the index into one piece; where it is damaged, build it anew from the texts."""
    if not damaged:
        transaction.sql("insert into word (word) values ('optimize')")
        return
    transaction.sql("drop table word_count")
    transaction.sql("drop table word")
    lay_out(transaction)
