"""The verbs that look at and after a collection: get, delete, info, check and models."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from search.cli import output
from search.cli.options import (
    HERE,
    CollectionOption,
    DeviceOption,
    JsonOption,
    WhereOption,
    must_exist,
    opened,
)
from search.errors import CollectionError, ModelError, UnknownRecord


def get(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of records.")],
    collection: CollectionOption = HERE,
    as_json: JsonOption = False,
) -> None:
    """Show stored records."""
    with opened(collection) as there:
        found = there.get(ids)
    if as_json:
        output.document([None if one is None else output.record(one) for one in found])
        return
    output.records([one for one in found if one is not None])
    missing = [id for id, one in zip(ids, found, strict=True) if one is None]
    if missing:
        raise UnknownRecord(f"no record has the id {', '.join(missing)}; list them with: nearkin export")


def delete(
    ids: Annotated[Optional[list[str]], typer.Argument(metavar="ID...", help="Ids of records.")] = None,  # noqa: UP045
    collection: CollectionOption = HERE,
    where: WhereOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete records, by id or all that match."""
    must_exist(collection)
    with opened(collection, "rw") as there:
        missing = [id for id in dict.fromkeys(ids or []) if there.get(id) == [None]]
        n = there.delete(ids or None, where=where)
    if as_json:
        output.document({"deleted": n} | ({"missing": missing} if ids else {}))
        return
    output.console().print(f"{n:,} records deleted")
    if missing:
        raise UnknownRecord(f"no record has the id {', '.join(missing)}; list them with: nearkin export")


def info(collection: CollectionOption = HERE, as_json: JsonOption = False) -> None:
    """Say what a collection holds: records, spaces, models, indexes and their measured recall."""
    with opened(collection) as there:
        told = there.info()
    if as_json:
        output.document(told)
    else:
        output.info(told)


def check(collection: CollectionOption = HERE, as_json: JsonOption = False) -> None:
    """Look for damage in every file of a collection."""
    with opened(collection) as there:
        found = there.check()
    if as_json:
        output.document({"ok": not found, "problems": found})
    elif not found:
        output.console().print("no damage found")
    for line in found:
        output.say(line)
    if found:
        raise CollectionError(f"{len(found)} problems found in {collection}; see above for each")


def models(
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Argument(
            metavar="MODEL",
            help="Which one to measure (all that are here if none is named), or to look into.",
        ),
    ] = None,
    measure: Annotated[bool, typer.Option("--measure", help="Time a short sample, and remember it.")] = False,
    layers: Annotated[
        bool,
        typer.Option(
            "--layers", help="List the layers of a picture network that --layer takes, with their shapes."
        ),
    ] = False,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")] = "auto",
    as_json: JsonOption = False,
) -> None:
    """List the models that are on this machine with size and speed, and say how others are named."""
    from search.encoders.available import here

    if layers:
        if model is None or measure or (device, precision) != ("auto", "auto"):
            raise typer.BadParameter("name one model, and nothing else", param_hint="--layers")
        from search.encoders.load import layers_of

        output.layers(layers_of(model), as_json=as_json)
        return
    if measure:
        _measure([model] if model else None, device, precision)
    elif model or (device, precision) != ("auto", "auto"):
        raise typer.BadParameter(
            "a model is for --measure or --layers, a device or a precision for --measure; add it",
            param_hint="--measure",
        )
    found = here()
    if as_json:
        output.document(found)
        return
    output.models(found)
    output.console().print(
        "By name, fetched when first used: any Hugging Face text encoder, clip-ViT-B-32 and its kin,\n"
        "torchvision:NAME (torchvision:resnet50 …), timm:NAME. At an endpoint: openai:NAME with --base-url.\n"
        "Words in their context: word:NAME of a text encoder (ingest text --level word).\n"
        "Learned from your data: patches, simclr, word2vec, glove; of graphs node2vec, node2vec+, deepwalk, prone,\n"
        "netmf, cleora, eigenmaps, lle, sgc; of whole graphs wl, graph2vec, pooled."
    )


def _measure(models: list[str] | None, device: str, precision: str) -> None:
    """Measure these, or all that are here; one of all that cannot be run is told and passed over."""
    from search.encoders import measured
    from search.encoders.available import here
    from search.encoders.load import Device

    chosen = models or [str(one["model"]) for one in here() if one["bytes"] is not None]
    for name in chosen:
        try:
            speed = measured.measure(name, Device(device, precision))
        except ModelError as error:
            if models:
                raise
            output.say(f"{name} was not measured: {error}")
            continue
        measured.remember(speed)
        output.say(f"{name}: {speed.per_s:,.0f} {speed.what}/s on {speed.device} in {speed.precision}")


def register(app: typer.Typer) -> None:
    """Give the verbs to the root command."""
    for verb in (get, delete, info, check, models):
        app.command()(verb)
