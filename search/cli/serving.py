"""The verb that serves a collection over HTTP."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from search.cli import output
from search.cli.options import HERE, CollectionOption, DeviceOption, opened


def serve(
    collection: CollectionOption = HERE,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is everywhere.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="0 takes a free one.")] = 8000,
    token: Annotated[
        Optional[str],  # noqa: UP045 - typer reads it
        typer.Option(
            metavar="SECRET",
            envvar="NEARKIN_TOKEN",
            help="What each request must bring; needed beyond this machine. Better set NEARKIN_TOKEN.",
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32, bf16 or fp16.")] = "auto",
    no_files: Annotated[
        bool, typer.Option("--no-files", help="Show no thumbnails but those that the collection keeps.")
    ] = False,
    queue: Annotated[int, typer.Option(metavar="N", min=1, help="How many requests may wait.")] = 128,
    allow_host: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="NAME", help="A name that requests may call this machine by; repeat for more."),
    ] = None,
    allow_origin: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(metavar="URL", help="A site whose pages may read the answers; repeat for more."),
    ] = None,
) -> None:
    """Answer questions over HTTP: a page for people at /, JSON for programs (see docs/serve.md)."""
    with opened(collection, device=device, precision=precision) as there:
        from search.server import run
        from search.server.settings import LOOPBACK, Settings

        here = run.is_loopback(host)
        _check(host, token, here=here)
        own = f"[{host}]" if ":" in host else host
        settings = Settings(
            token=token,
            files=not no_files,
            queue=queue,
            hosts=(*LOOPBACK, own.lower(), *map(_name, allow_host or ())) if here or allow_host else None,
            origins=tuple(map(_origin, allow_origin or ())),
        )
        if not here:
            output.say(
                f"warning: {host} is reached from other machines, and what is said there is not encrypted; "
                "put a proxy with TLS before it"
            )
        run.serve(there, settings, host=host, port=port, say=output.say)


def _name(said: str) -> str:
    """A host as requests name it, without a port.

    Raises:
        BadParameter: it is none.
    """
    if not said or set(said) & set("/?#*@ ") or (":" in said and not said.endswith("]")):
        raise typer.BadParameter(
            f"'{said}' is no name of a host; write it like shop.example", param_hint="--allow-host"
        )
    return said.lower()


def _origin(said: str) -> str:
    """A site as browsers name it: scheme, host and port alone.

    Raises:
        BadParameter: it is none.
    """
    scheme, _, rest = said.partition("://")
    if scheme not in ("http", "https") or not rest.rstrip("/") or set(rest.rstrip("/")) & set("/?#*@ "):
        raise typer.BadParameter(
            f"'{said}' is no site; write it like https://example.org", param_hint="--allow-origin"
        )
    return said.rstrip("/").lower()


def _check(host: str, token: str | None, *, here: bool) -> None:
    """Refuse to serve everyone, or with a token that can be guessed."""
    from search.server.settings import SHORTEST_TOKEN

    if token is None and not here:
        raise typer.BadParameter(
            f"{host} is reached from other machines; set NEARKIN_TOKEN to a secret of {SHORTEST_TOKEN} "
            "characters or more",
            param_hint="--host",
        )
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise typer.BadParameter(
            f"the token needs {SHORTEST_TOKEN} characters or more, all of them ASCII", param_hint="--token"
        )


def register(app: typer.Typer) -> None:
    """Give the verb to the root command."""
    app.command()(serve)
