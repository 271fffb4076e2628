"""The verb that gives a space another model: migrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from search.cli import output
from search.cli.options import HERE, CollectionOption, DeviceOption, JsonOption, must_exist, opened
from search.errors import CollectionError

if TYPE_CHECKING:
    from ingest.verbs.migrating import Migration


def migrate(
    space: Annotated[str, typer.Option(metavar="S", help="A space of texts or of pictures.")],
    collection: CollectionOption = HERE,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="M", help="The new model, as for ingest text or ingest images."),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Give the space its old model again.")] = False,
    drop: Annotated[
        bool, typer.Option("--drop", help="Drop the old space, or what was filled of a new one.")
    ] = False,
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="L", help="The hidden layer to take the vectors from."),
    ] = None,
    pooling: Annotated[Optional[str], typer.Option(help="How they become one vector.")] = None,  # noqa: UP045
    dim: Annotated[int | None, typer.Option(help="Keep so many numbers of each vector.")] = None,
    query_prompt: Annotated[Optional[str], typer.Option(help="Stands before each query.")] = None,  # noqa: UP045
    document_prompt: Annotated[Optional[str], typer.Option(help="Stands before each document.")] = None,  # noqa: UP045
    base_url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URL", help="Where a remote model (openai:NAME) is asked."),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(help="The longest passage, in tokens.", show_default="as it is there")
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbours share.", show_default="as it is there")
    ] = None,
    queries: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Queries to compare the two models by, as for evaluate."),
    ] = None,
    qrels: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Their judgements."),
    ] = None,
    no_compare: Annotated[bool, typer.Option("--no-compare", help="Switch without a comparison.")] = False,
    no_switch: Annotated[
        bool, typer.Option("--no-switch", help="Fill and compare, and leave it there.")
    ] = False,
    accept: Annotated[bool, typer.Option("--accept", help="Switch though the new model is worse.")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Switch though some records could not be encoded.")
    ] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """Give a space another model while it goes on being asked: filled beside it, compared, switched in one commit."""
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.report import Options
    from search.encoders.load import ModelChoice

    if (model is not None) + back + drop != 1:
        raise typer.BadParameter("give one of --model, --back and --drop")
    choice = ModelChoice(
        layer=layer,
        pooling=pooling,
        dim=dim,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
        base_url=base_url,
    )
    compared = queries is not None or qrels is not None or no_compare or no_switch or accept
    if (back or drop) and (choice != ModelChoice() or compared or tokens is not None or overlap is not None):
        raise typer.BadParameter("how to encode and to compare is said with --model only")
    if drop and allow_missing:
        raise typer.BadParameter("--allow-missing means nothing with --drop")
    must_exist(collection)
    with opened(collection, "rw", device, precision) as there:
        if drop:
            name, n = verbs.migrate_drop(there, space)
            if as_json:
                output.document({"dropped": name, "vectors": n})
            else:
                output.say(f"space '{name}' with its {n:,} vectors is dropped")
            return
        with progress() as bars:
            options = Options(device, precision, tokens, overlap, bars)
            if back:
                done = verbs.migrate_back(there, space, allow_missing=allow_missing, options=options)
            else:
                assert model is not None
                comparing = verbs.Comparing(
                    compare=not no_compare,
                    queries=queries,
                    judgements=qrels,
                    accept=accept,
                    switch=not no_switch,
                )
                done = verbs.migrate(
                    there,
                    space,
                    model,
                    choice=choice,
                    comparing=comparing,
                    allow_missing=allow_missing,
                    options=options,
                )
    _finish(done, as_json=as_json, meant=not no_switch)


def _finish(done: Migration, *, as_json: bool, meant: bool) -> None:
    """Tell what was done; an error where the switch was meant and not made."""
    if as_json:
        output.document(done.to_json())
    else:
        if done.compared is not None:
            from search.cli.evaluating import measures

            measures(done.compared)
        if done.judged is not None:
            from search.cli.evaluating import metrics

            metrics(done.judged)
        output.say(f"{done.filled:,} records encoded by {done.model} in {done.seconds:.1f} s")
    if done.not_compared is not None:
        output.say(f"the two models could not be compared: {done.not_compared}")
    for one in done.rejects:
        output.say(f"not encoded: {' '.join(one.split())}")
    if done.switched:
        output.say(
            f"space '{done.space}' has vectors of {done.model} now; those of {done.before} stand by as "
            f"'{done.space}@old' (--back, --drop)"
        )
        return
    if not meant:
        output.say(f"'{done.space}@next' is filled; the same command without --no-switch switches to it")
        return
    if done.worse:
        raise CollectionError(
            f"not switched: {', '.join(done.worse)} worse with {done.model} by more than chance; switch all the same "
            "with --accept, or give it up with --drop"
        )
    raise CollectionError(
        f"not switched: {done.rejected:,} records could not be encoded (each with its reason in {done.rejects_file}); "
        "mend them, or go on with --allow-missing"
    )


def register(app: typer.Typer) -> None:
    """Give the verb to the root command."""
    app.command()(migrate)
