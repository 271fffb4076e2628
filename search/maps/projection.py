"""Vectors brought down to two numbers each: UMAP, or principal components."""

from __future__ import annotations

import warnings
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from search.errors import MissingExtra, QueryError
from search.vectors import Vectors, unit_rows

FEW = 30  # below so many there is no neighbourhood to keep, and principal components are taken
_NEIGHBOURS = 15  # UMAP's own default
_BUNDLE = "map"


class Method(StrEnum):
    """How vectors are brought down to the plane."""

    AUTO = "auto"  # umap, or pca for fewer than FEW
    UMAP = "umap"
    PCA = "pca"


def chosen(method: str, n: int) -> Method:
    """The method that is meant for n vectors.

    Raises:
        QueryError: there is no such method.
    """
    try:
        named = Method(method)
    except ValueError:
        raise QueryError(f"there is no method '{method}' for maps; use {', '.join(Method)}") from None
    if named is Method.AUTO:
        return Method.PCA if n < FEW else Method.UMAP
    return named


def projected(vectors: Vectors, method: Method, seed: int) -> NDArray[np.float32]:
    """A place (n, 2) for each of the vectors (n, dim), which are compared by the cosine.

    Raises:
        MissingExtra: UMAP is wanted and is not installed.
        QueryError: UMAP is wanted for fewer than three.
    """
    return by_umap(vectors, seed) if method is Method.UMAP else by_pca(vectors)


def by_pca(vectors: Vectors) -> NDArray[np.float32]:
    """The two principal components, (n, 2); the greatest number of each is positive."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    places = np.zeros((len(vectors), 2))
    found = centred @ axes[:, ::-1][:, :2]
    places[:, : found.shape[1]] = found
    greatest = places[np.abs(places).argmax(axis=0), [0, 1]]
    return (places * np.where(greatest < 0, -1.0, 1.0)).astype(np.float32)


def by_umap(vectors: Vectors, seed: int) -> NDArray[np.float32]:
    """Places (n, 2) that keep neighbourhoods (McInnes, Healy & Melville 2018); one seed, one result."""
    if len(vectors) < 3:
        raise QueryError(
            f"UMAP needs at least three vectors and there are {len(vectors)}; use the method pca"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what it calls, about versions of its own
        try:
            from umap import UMAP
        except ImportError as error:
            raise MissingExtra(
                "a map by UMAP (principal components, --method pca, do without)", _BUNDLE
            ) from error
        neighbours, distances = _nearest(vectors, min(_NEIGHBOURS, len(vectors) - 1))
        mapper = UMAP(
            n_neighbors=neighbours.shape[1],
            metric="cosine",
            precomputed_knn=(neighbours, distances),
            random_state=seed,
            n_jobs=1,
            # With so few, eigenvectors of the neighbourhood graph cannot be had.
            init="spectral" if len(vectors) > 10 else "random",
        )
        return np.asarray(mapper.fit_transform(vectors), dtype=np.float32)


def _nearest(vectors: Vectors, k: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The k nearest of each vector (n, k), itself among them, and how far they are: 1 less the cosine.

    By FAISS, exactly; UMAP's own search takes three quarters of its time.
    """
    import faiss

    unit = unit_rows(vectors)
    cosines, neighbours = faiss.knn(unit, unit, k, metric=faiss.METRIC_INNER_PRODUCT)
    return neighbours, np.clip(1 - cosines, 0, None).astype(np.float32)
