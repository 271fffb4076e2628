"""The verb that takes in texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from ingest.cli.options import (
    DevicesOption,
    DryRun,
    Precision,
    Prune,
    Strict,
    options_of,
)
from ingest.cli.outcome import finish
from search.cli.options import HERE, CollectionOption, JsonOption


def text(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, folders, archives; - is standard input.")
    ],
    collection: CollectionOption = HERE,
    space: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="S", help="Where the vectors go.", show_default="text, or words with --level word"
        ),
    ] = None,
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M",
            help="A Hugging Face encoder by name or folder; openai:NAME; a file of word vectors (word2vec, GloVe); "
            "or word2vec, word2vec:cbow, glove: learned from these texts.",
            show_default="the space's, else all-MiniLM-L6-v2",
        ),
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            metavar="L",
            help="What has a vector: each passage, or each word: in its context, or by itself with word vectors.",
        ),
    ] = "passage",
    words: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="W,W…",
            help="At level word, in context: which words; another choice replaces the former.",
            show_default="all",
        ),
    ] = None,
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="N[,N]", help="Hidden layers to take the vectors from: 8, or -2,-1 averaged."),
    ] = None,
    pooling: Annotated[Optional[str], typer.Option(help="cls, mean, max or last.")] = None,  # noqa: UP045
    dim: Annotated[
        int | None,
        typer.Option(help="Keep so many numbers of each vector; for words learned here, how many they have."),
    ] = None,
    query_prompt: Annotated[Optional[str], typer.Option(help="Stands before each query.")] = None,  # noqa: UP045
    document_prompt: Annotated[Optional[str], typer.Option(help="Stands before each document.")] = None,  # noqa: UP045
    base_url: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="URL", help="Where a remote model (openai:NAME) is asked."),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="The id: a field, a path (author.name) or a template ({lang}-{sku})."),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="F", help="The text: a field, a path (a.b) or a template ('{title}. {abstract}')."
        ),
    ] = None,
    rows: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="PATH", help="Where the array of records stands in .json files (data.items)."),
    ] = None,
    format: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="SUFFIX",
            help="What standard input or the named files are, whatever their names: csv, jsonl.gz …",
        ),
    ] = None,
    tokens: Annotated[
        int | None,
        typer.Option(help="The longest passage, in tokens.", show_default="256, or what the model sees"),
    ] = None,
    overlap: Annotated[
        int | None, typer.Option(help="Tokens that neighbouring passages share.", show_default="32")
    ] = None,
    device: DevicesOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Texts, cut into passages: .txt .md .rst .html .pdf .docx .epub .eml .jsonl .json .csv .tsv .parquet.

    Also .gz and .zst of these, .zip and .tar of them, folders of all, and standard input.
    """
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.report import Level
    from ingest.sources.load import TextFormat
    from search.encoders.load import ModelChoice

    with progress() as bars:
        report = verbs.text(
            collection,
            paths,
            text=text,
            id=id,
            form=TextFormat(format, rows),
            model=model,
            choice=ModelChoice(
                layer=layer,
                pooling=pooling,
                dim=dim,
                query_prompt=query_prompt,
                document_prompt=document_prompt,
                base_url=base_url,
            ),
            level=Level.named(level),
            words=[] if words is None else words.split(","),
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=options_of(device, precision, bars, tokens, overlap),
        )
    finish(report, strict=strict, as_json=as_json)
