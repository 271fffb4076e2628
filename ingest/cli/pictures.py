"""The verb that takes in pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from ingest.cli.options import (
    DevicesOption,
    DryRun,
    Precision,
    Prune,
    Space,
    Strict,
    options_of,
)
from ingest.cli.outcome import finish
from search.cli.options import HERE, CollectionOption, JsonOption
from search.errors import SourceError

if TYPE_CHECKING:
    from ingest.learn.pictures.settings import SimclrSettings
    from ingest.objects import ObjectSettings


def images(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Files, folders, archives, lists of paths.")
    ],
    collection: CollectionOption = HERE,
    space: Space = "image",
    model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M",
            help="clip-ViT-B-32, torchvision:NAME or timm:NAME; with --learn simclr the network to learn.",
            show_default="the space's, else clip-ViT-B-32; with --learn a small network",
        ),
    ] = None,
    weights: Annotated[Optional[Path], typer.Option(metavar="FILE", help="Weights to use instead.")] = None,  # noqa: UP045
    layer: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="NAME", help="A hidden layer of the network; see: nearkin models MODEL --layers."
        ),
    ] = None,
    pooling: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="P", help="How positions become one vector: avg, gem, max or cls."),
    ] = None,
    query_prompt: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="TEMPLATES",
            help="CLIP: put a query's words into these: 'a photo of a {}.|a drawing of a {}.'",
        ),
    ] = None,
    path: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the field that holds the picture's path."),
    ] = None,
    id: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the id, a field or a template.", show_default="the path"),
    ] = None,
    text: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="F", help="Of a list: the record's text, such as a caption."),
    ] = None,
    root: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(
            metavar="DIR", help="Of a list: the folder its paths are within.", show_default="the list's"
        ),
    ] = None,
    frames: Annotated[
        str, typer.Option(metavar="first|all", help="Of animations and multi-page files, which frames.")
    ] = "first",
    draft: Annotated[
        bool,
        typer.Option("--draft", help="Decode JPEGs no larger than needed: quicker, slightly other vectors."),
    ] = False,
    thumbnails: Annotated[
        int | None,
        typer.Option(
            metavar="SIDE", help="Keep a small picture of each, of so many pixels; 256 suits pages."
        ),
    ] = None,
    learn: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="METHOD",
            help="Learn the model from these pictures, with no download: patches (seconds) or simclr (a network).",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            help="simclr: how often each picture is seen.", show_default="20 to 200, by their number"
        ),
    ] = None,
    flip: Annotated[
        Optional[bool],  # noqa: UP045
        typer.Option(
            "--flip/--no-flip",
            help="simclr: whether a mirrored picture is the same.",
            show_default="yes, but for small grey ones",
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="simclr: the same seed gives the same network.", show_default="0")
    ] = None,
    objects: Annotated[
        bool, typer.Option("--objects", help="Find objects too; each is found by searching, with its box.")
    ] = False,
    objects_model: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            metavar="M", help="A detection network of torchvision.", show_default="fasterrcnn_resnet50_fpn_v2"
        ),
    ] = None,
    objects_weights: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(metavar="FILE", help="Weights of it to use instead."),
    ] = None,
    objects_min_score: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(metavar="S", help="How sure it must be of an object, 0 to 1.", show_default="0.5"),
    ] = None,
    objects_most: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(metavar="N", help="How many objects are kept of a picture.", show_default="16"),
    ] = None,
    device: DevicesOption = "auto",
    precision: Precision = "auto",
    dry_run: DryRun = False,
    prune: Prune = False,
    strict: Strict = False,
    as_json: JsonOption = False,
) -> None:
    """Pictures: .jpg .png .webp .gif .bmp .tif .avif .heic, folders, .zip and .tar of them, lists with their paths."""
    wanted = _objects(
        objects, model=objects_model, weights=objects_weights, min_score=objects_min_score, most=objects_most
    )
    from ingest import verbs
    from ingest.cli.progress import progress
    from ingest.sources.pictures import PictureFormat

    with progress() as bars:
        report = verbs.images(
            collection,
            paths,
            model=model,
            weights=weights,
            layer=layer,
            pooling=pooling,
            query_prompt=query_prompt,
            form=PictureFormat(path, id, text, root, frames, draft),
            thumbnails=thumbnails,
            learn=_learning(model, learn, epochs, flip, seed),
            objects=wanted,
            space=space,
            prune=prune,
            dry_run=dry_run,
            options=options_of(device, precision, bars),
        )
    finish(report, strict=strict, as_json=as_json)


def _learning(
    model: str | None, method: str | None, epochs: int | None, flip: bool | None, seed: int | None
) -> str | SimclrSettings | None:
    """What images is told to learn; what says how simclr learns is refused with anything else."""
    if epochs is None and flip is None and seed is None:
        return method
    if method != "simclr" and (method or model or "").partition(":")[0] != "simclr":
        raise SourceError(
            "--epochs, --flip and --seed say how simclr learns; add --learn simclr, or leave them out"
        )
    from ingest.learn.pictures.settings import SimclrSettings

    return SimclrSettings(epochs=epochs, flip=flip, seed=0 if seed is None else seed)


def _objects(
    wanted: bool, *, model: str | None, weights: Path | None, min_score: float | None, most: int | None
) -> ObjectSettings | None:
    """How objects are looked for; None where they are not."""
    if not wanted:
        if (model, weights, min_score, most) != (None, None, None, None):
            raise typer.BadParameter("it is for finding objects; add --objects", param_hint="--objects-…")
        return None
    from ingest.objects import ObjectSettings

    usual = ObjectSettings()
    return ObjectSettings(
        model=usual.model if model is None else model,
        weights=weights,
        min_score=usual.min_score if min_score is None else min_score,
        most=usual.most if most is None else most,
    )
