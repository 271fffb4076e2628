"""The verbs that ask: search, recommend and senses."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from search.cli import examples, output
from search.cli.options import (
    HERE,
    CollectionOption,
    ContextOption,
    DeviceOption,
    ExplainOption,
    HtmlOption,
    JsonOption,
    KOption,
    WhereOption,
    opened,
    write_sheet,
)


def search(
    query: Annotated[
        str | None,
        typer.Argument(help='Words to search for; of words in context, mark one: "by the river \\[bank]".'),
    ] = None,
    collection: CollectionOption = HERE,
    k: KOption = 10,
    where: WhereOption = None,
    image: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Search by a picture.")] = None,  # noqa: UP045
    like: Annotated[Optional[str], typer.Option(metavar="ID", help="Search by a stored record.")] = None,  # noqa: UP045
    graph: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Search by a whole graph, where such were taken in."),
    ] = None,
    weight: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="WAY=NUMBER",
            help="Of several ways together, how much one counts: text, image, graph or like; repeat for more.",
        ),
    ] = None,
    region: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="X,Y,W,H", help="Search by this part of the picture, in its pixels as it is shown."
        ),
    ] = None,
    space: Annotated[Optional[str], typer.Option(metavar="S", help="Which space to search.")] = None,  # noqa: UP045
    effort: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="How hard an approximate index looks; more finds more, slower."),
    ] = None,
    context: ContextOption = 0,
    rerank: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M",
            help="Compare the first hits again: maxsim (token by token), or a cross-encoder by name or folder.",
        ),
    ] = None,
    rerank_depth: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(
            metavar="N", help="How many of the first hits are compared again, k at least.", show_default="100"
        ),
    ] = None,
    hybrid: Annotated[
        bool,
        typer.Option(
            "--hybrid", help='Look for the words themselves too: words, "phrases" and beginnings*, by BM25.'
        ),
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option("--calibrate", help="Ask all spaces that can answer, their scores made comparable."),
    ] = False,
    boost: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="EXPR",
            help='Add to the score, over fields: "log(1 + sales) * 0.1 - age_days(date) / 365".',
        ),
    ] = None,
    min_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="X", help="Leave out hits below this score."),
    ] = None,
    diversity: Annotated[
        float, typer.Option(metavar="D", help="0: relevance alone; 1: difference alone.")
    ] = 0.0,
    group_by: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="FIELD", help="Only the best hit for each value of this field."),
    ] = None,
    offset: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="Pass over so many hits, for a page; 0 for the first one."),
    ] = None,
    after: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="CURSOR", help="The page after the hit that has this cursor (see --json)."),
    ] = None,
    explain: ExplainOption = False,
    html: HtmlOption = None,
    device: DeviceOption = "auto",
    as_json: JsonOption = False,
) -> None:
    """Find what is nearest to words, a picture, a graph or a stored record, or to several of these together."""
    with opened(collection, device=device) as there:
        found = there.search(
            query,
            k=k,
            where=where,
            space=space,
            image=image,
            like=like,
            weights=_weighted(weight, "--weight") if weight else None,
            region=None if region is None else _numbers(region),
            graph=graph,
            effort=effort,
            context=context,
            rerank=rerank,
            rerank_depth=rerank_depth,
            hybrid=hybrid,
            calibrate=calibrate,
            boost=boost,
            min_score=min_score,
            diversity=diversity,
            group_by=group_by,
            offset=offset,
            after=after,
            explain=explain,
        )
        if html is not None:
            from search.sheet import sheet

            (example,) = [None] if like is None else there.get(like)
            cut = None if region is None else _numbers(region)
            asked = sheet.query_cards(query, image, cut, example, there.thumbnail)
            asked += [sheet.Card(str(graph), "graph")] if graph is not None else []
            told = f"{len(found):,} hits in {collection}" + (f" where {where}" if where else "")
            write_sheet(html, sheet.of_hits(found, asked, told, there.thumbnail))
    if as_json:
        output.document([hit.to_json() for hit in found])
    else:
        output.hits(found, explain=explain, whole=context > 0)


def recommend(
    collection: CollectionOption = HERE,
    like: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            "--like",
            metavar="ID[=N]",
            help="A record that is liked, how much it counts, or since when (=2026-03-11); repeat for more.",
        ),
    ] = None,
    dislike: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--dislike", metavar="ID[=N]", help="A record that is not, likewise; repeat for more."),
    ] = None,
    user: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="U", help="Instead: a user, as named in the interactions taken in."),
    ] = None,
    history: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="ID[=N]",
            help="Instead: an item that somebody took who is not known, likewise; repeat for more.",
        ),
    ] = None,
    k: KOption = 10,
    where: WhereOption = None,
    space: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--space", metavar="S[=WEIGHT]", help="A space to look at; repeat for more."),
    ] = None,
    diversity: Annotated[float, typer.Option(help="0: relevance alone; 1: difference alone.")] = 0.0,
    strategy: Annotated[
        str, typer.Option(help="average, best (near any one like) or linear (a model learned on the spot).")
    ] = "average",
    pair: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="ID,ID", help="Nearer to the first than to the second; repeat for more."),
    ] = None,
    exclude: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="ID", help="A record that is not to come back; repeat for more."),
    ] = None,
    half_life: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(
            metavar="DAYS", help="What has a date counts half so many days later.", show_default="30"
        ),
    ] = None,
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Make the scores of the spaces comparable first.")
    ] = False,
    explain: ExplainOption = False,
    as_json: JsonOption = False,
) -> None:
    """Recommend what is near the liked records and far from the disliked, or what a user should see next."""
    if user is None and not history and not like and not pair:
        raise typer.BadParameter("give --like, --pair, --user or --history", param_hint="--like")
    with opened(collection) as there:
        found = there.recommend(
            examples.said(like or []),
            examples.said(dislike or []),
            user=user,
            history=examples.said(history) if history else None,
            k=k,
            where=where,
            spaces=_weighted(space, "--space") if space else None,
            diversity=diversity,
            strategy=strategy,
            pairs=[_pair(one) for one in pair or []],
            exclude=exclude or [],
            half_life=half_life,
            calibrate=calibrate,
            explain=explain,
        )
    if as_json:
        output.document([hit.to_json() for hit in found])
    else:
        output.hits(found, explain=explain)


def _pair(said: str) -> tuple[str, str]:
    near, comma, far = said.partition(",")
    if not comma or not near or not far:
        raise typer.BadParameter(f"'{said}' is no pair; write --pair ID,ID", param_hint="--pair")
    return near, far


def _weighted(said_of: list[str], option: str) -> dict[str, float]:
    wanted = {}
    for said in said_of:
        name, equals, weight = said.partition("=")
        try:
            wanted[name] = float(weight) if equals else 1.0
        except ValueError:
            raise typer.BadParameter(
                f"'{weight}' is not a number; write {option} {name}=2", param_hint=option
            ) from None
    return wanted


def _numbers(region: str) -> list[float]:
    try:
        return [float(number) for number in region.split(",")]
    except ValueError:
        raise typer.BadParameter(
            f"'{region}' is no region; write --region X,Y,WIDTH,HEIGHT", param_hint="--region"
        ) from None


def senses(
    word: Annotated[str, typer.Argument(metavar="WORD", help="The word, as it stands in the texts.")],
    collection: CollectionOption = HERE,
    space: Annotated[str, typer.Option(metavar="S", help="A space of words in their context.")] = "words",
    k: Annotated[int, typer.Option("-k", metavar="N", help="How many examples of each sense.")] = 3,
    context: Annotated[int, typer.Option(metavar="N", help="Words shown on either side of each.")] = 8,
    as_json: JsonOption = False,
) -> None:
    """List the senses of a word, by clustering its occurrences (see ingest text --level word)."""
    with opened(collection) as there:
        found = there.senses(word, space=space, examples=k, context=context)
    if as_json:
        output.document([sense.to_json() for sense in found])
    else:
        output.senses(found)


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (search, recommend, senses):
        app.command()(verb)
