"""The words of the records' texts, in an FTS5 table (read by `postings`).

Texts that change or go leave it in the same commit. New ones wait and are taken in a little later, many at a time;
whoever asks meanwhile looks into those that wait as well (`search.query.recent`). Which they are is told by one
number: the records from the key `until` on.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence

from search.catalog.database import Database, Transaction
from search.errors import CollectionCorrupt

_TOKENS = "unicode61 remove_diacritics 2"
# Words of a commit are gathered in so many bytes before they are sorted into the table: 1 MB, FTS5's own measure,
# makes a large commit sort and merge them again and again (twice the time for 10,000 short texts).
_ROOMY = "insert into word (word, rank) values ('hashsize', 16777216)"
TABLES = (
    # Without the texts, which stand in `record`: it holds the words alone.
    f"create virtual table word using fts5 (text, content = '', tokenize = '{_TOKENS}')",
    "create virtual table word_count using fts5vocab (word, 'row')",
    _ROOMY,
)
# The same for a few texts in memory, which it holds itself; and to cut queries into words.
IN_MEMORY = (
    f"create virtual table word using fts5 (text, tokenize = '{_TOKENS}')",
    _ROOMY,
    f"create virtual table asked using fts5 (text, tokenize = '{_TOKENS}')",
    "create virtual table asked_at using fts5vocab (asked, 'instance')",
)
_SHADOWS = ("data", "idx", "docsize", "config")  # the tables in which FTS5 keeps an index
_AT_ONCE = 5_000  # records read together
BULK = 256  # records: a commit of fewer takes in some of those that wait, once so many do
MOST_WAITING = 1 << 17  # records: no more wait, however they come
UNTIL = "create table words_until (id integer primary key check (id = 1), key integer not null)"

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
        _add(transaction, rows)


def _add(transaction: Transaction, texts: Iterable[tuple[int, str | None]]) -> None:
    rows = [(key, spaced(text)) for key, text in texts if text]
    if rows:
        transaction.many("insert into word (rowid, text) values (?, ?)", rows)


def _drop(transaction: Transaction, texts: Iterable[tuple[int, str | None]]) -> None:
    rows = [(key, spaced(text)) for key, text in texts if text]
    if rows:
        transaction.many("insert into word (word, rowid, text) values ('delete', ?, ?)", rows)


def until(transaction: Transaction) -> int:
    """The key from which on records wait to be taken in.

    Raises:
        CollectionCorrupt: it is lost.
    """
    found = transaction.value("select key from words_until")
    if found is None:
        raise CollectionCorrupt("the index of words is damaged; build it anew with: nearkin compact")
    return int(found)


def waiting(transaction: Transaction) -> Iterator[list[tuple[int, str]]]:
    """The keys and texts of the records that wait, some at a time; those without a text are left out."""
    return _texts(transaction, until(transaction) - 1)


def take_in(transaction: Transaction, next_record: int, most: int) -> int:
    """Take in the texts of records that wait, those of the next `most` keys; how many keys still wait."""
    begin = until(transaction)
    end = min(begin + most, next_record)
    if begin >= end:
        return 0
    _add(
        transaction,
        transaction.sql("select key, text from record where key >= ? and key < ?", (begin, end)).fetchall(),
    )
    transaction.sql("update words_until set key = ?", (end,))
    return next_record - end


def keep_up(transaction: Transaction, next_record: int, n_new: int) -> None:
    """After a commit's `n_new` records: take in some of those that wait, so that neither they nor the work pile up."""
    n_waiting = next_record - until(transaction)
    if n_waiting > MOST_WAITING:
        take_in(transaction, next_record, n_waiting - MOST_WAITING)
    elif n_new < BULK <= n_waiting:
        take_in(transaction, next_record, 2 * BULK)


def change(
    transaction: Transaction,
    before: Iterable[tuple[int, str | None]],
    after: Iterable[tuple[int, str | None]],
) -> None:
    """Records have other texts: forget those from before, each given as it was, and take in those of after."""
    end = until(transaction)
    _drop(transaction, [one for one in before if one[0] < end])
    _add(transaction, [one for one in after if one[0] < end])


def drop_all_of(transaction: Transaction, condition: str, values: Sequence[object]) -> None:
    """Forget the texts of the records that are about to be deleted: those that meet an SQL condition on `record`."""
    _drop(
        transaction,
        transaction.sql(
            f"select key, text from record where text is not null and key < ? and {condition}",  # noqa: S608 - ours
            (until(transaction), *values),
        ).fetchall(),
    )


def _texts(transaction: Transaction, after: int = 0) -> Iterator[list[tuple[int, str]]]:
    last = after
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
        end = until(transaction)
        for rows in _texts(transaction):
            transaction.many(
                "insert into said values (?, ?)", [(key, spaced(text)) for key, text in rows if key < end]
            )
        for shadow in _SHADOWS:
            transaction.sql(f"delete from temp.compared_{shadow}")  # noqa: S608 - ours
            transaction.sql(f"insert into temp.compared_{shadow} select * from main.word_{shadow}")  # noqa: S608 - ours
        transaction.sql("insert into compared (compared, rank) values ('integrity-check', 1)")
    except CollectionCorrupt as error:
        return [str(error)]
    except sqlite3.DatabaseError as error:
        return [f"the index of words is damaged ({error}); build it anew with: nearkin compact"]
    finally:
        connection.close()
    return []


def repair(transaction: Transaction, next_record: int, *, damaged: bool) -> None:
    """Take in all that waits and gather the index into one piece; where it is damaged, build it anew from the texts."""
    if not damaged:
        while take_in(transaction, next_record, _AT_ONCE):
            pass
        transaction.sql("insert into word (word) values ('optimize')")
        return
    transaction.sql("drop table word_count")
    transaction.sql("drop table word")
    lay_out(transaction)
    transaction.sql("insert or replace into words_until values (1, ?)", (next_record,))
