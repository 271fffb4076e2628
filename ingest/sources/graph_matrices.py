"""Reads graphs that are matrices: MatrixMarket, scipy's and the benchmarks' .npz, .mat, and arrays in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edges import Attributes, Edges, usable
from ingest.sources.inputs import size_of
from ingest.sources.unpacking import LIMITS, Budget
from search.errors import SourceError
from search.types import Json

_MATLAB_NAMES = ("network", "adj", "A", "adjacency", "W", "G")
_FAULTS = (
    ValueError, TypeError, KeyError, IndexError, EOFError, OSError, OverflowError, MemoryError,
    NotImplementedError, AttributeError, zipfile.BadZipFile,
)  # fmt: skip


def take_matrix(matrix: Any, names: Sequence[str], directed: bool | None, edges: Edges) -> bool:
    """Take a sparse adjacency matrix (n, n), an edge from row to column for each entry that is not 0.

    With `directed` None a symmetric matrix is an undirected graph. A matrix whose entries are all 1 has no weights.
    Returns whether the graph is directed.

    Raises:
        SourceError: it is not square or not of real numbers, or two names are alike.
    """
    if len(matrix.shape) != 2 or matrix.shape[0] != matrix.shape[1]:
        shape = " x ".join(map(str, matrix.shape))
        raise SourceError(
            f"the matrix is {shape}; an adjacency matrix has a row and a column per node", edges.file
        )
    n = int(matrix.shape[0])
    if len(names) != n:
        raise SourceError(f"there are {len(names):,} ids for {n:,} nodes; give one for each", edges.file)
    if matrix.dtype.kind not in "biuf":
        raise SourceError(f"the matrix holds {matrix.dtype}; give real numbers", edges.file)
    matrix = matrix.tocsr()
    matrix.sum_duplicates()
    if directed is not True:
        symmetric = _is_symmetric(matrix)
        directed = not symmetric if directed is None else directed
        if symmetric:  # each edge stands there twice
            from scipy import sparse

            matrix = sparse.triu(matrix, format="csr")
    weights = matrix.data.astype(np.float64)
    sources = np.repeat(np.arange(n, dtype=np.int32), np.diff(matrix.indptr))
    targets = matrix.indices.astype(np.int32)
    there = weights != 0
    for k in np.flatnonzero(there & ~usable(weights)).tolist():
        name = f"{names[sources[k]]} - {names[targets[k]]}"
        edges.reject(f"the weight {weights[k]:g} of {name[:90]} is not a positive number", name=name)
    keep = there & usable(weights)
    edges.ids.numbers([name.encode() for name in names])
    if len(edges.ids) < n:
        raise SourceError("two nodes have the same id; rename one", edges.file)
    given = None if (weights[keep] == 1).all() else weights[keep]
    edges.add(sources[keep], targets[keep], given)
    return directed


def _is_symmetric(matrix: Any) -> bool:
    other = matrix.T.tocsr()
    matrix.sort_indices()
    other.sort_indices()
    return (
        np.array_equal(matrix.indptr, other.indptr)
        and np.array_equal(matrix.indices, other.indices)
        and np.array_equal(matrix.data, other.data, equal_nan=matrix.dtype.kind == "f")
    )


def _numbered(n: int, first: int) -> list[str]:
    return [str(k) for k in range(first, first + n)]


def _unreadable(what: str, file: str, error: BaseException) -> SourceError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return SourceError(f"is not a readable {what} file ({reason}); check the file", file)


def read_matrix_market(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> bool:
    """Take a MatrixMarket file; ids are row numbers from 1, as in the file. Returns whether it is directed.

    Raises:
        SourceError: it is not such a file.
    """
    from scipy import io, sparse

    try:
        n_rows, n_columns, entries, layout, _, _ = io.mminfo(handle)
        handle.seek(0)
        # every entry takes a line, every row of a dense matrix a number: what is declared beyond that is not there
        most = size_of(handle) if layout == "coordinate" else size_of(handle) + 1
        if entries > most or max(n_rows, n_columns) > 1_000_000 + 1_000 * entries:
            raise SourceError(
                f"declares {n_rows:,} rows and {entries:,} entries, more than it can hold; check the file",
                edges.file,
            )
        found = io.mmread(handle, spmatrix=False)
    except _FAULTS as error:
        raise _unreadable("MatrixMarket", edges.file, error) from error
    matrix = sparse.coo_array(found)
    return take_matrix(matrix, _numbered(matrix.shape[0], 1), form.directed, edges)


def read_npz(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take a sparse matrix as scipy.sparse.save_npz writes it, or a graph in the layout of the GNN benchmarks.

    The latter has `adj_data`, `adj_indices`, `adj_indptr` and `adj_shape`, and may have `node_names`, `labels`
    with `class_names`, and a matrix of attributes, which is not taken in. Without names ids are row numbers from 0.

    Raises:
        SourceError: it is not such a file, or needs pickle.
    """
    from scipy import sparse

    attributes: Attributes = {}
    try:
        _within_bounds(handle)
        with np.load(handle, allow_pickle=False) as arrays:
            if "adj_indptr" in arrays:
                matrix = sparse.csr_array(
                    (arrays["adj_data"], arrays["adj_indices"], arrays["adj_indptr"]),
                    shape=tuple(arrays["adj_shape"].tolist()),
                )
            elif "format" in arrays:
                handle.seek(0)
                matrix = sparse.load_npz(handle)
            else:
                raise SourceError(
                    f"holds no adjacency matrix but {', '.join(list(arrays)[:20]) or 'nothing'}; "
                    "save one with scipy.sparse.save_npz",
                    edges.file,
                )
            matrix = matrix.tocsr()
            matrix.check_format(full_check=True)
            names = _strings(arrays, "node_names") or _numbered(matrix.shape[0], 0)
            labels = arrays["labels"].tolist() if "labels" in arrays else []
            classes = _strings(arrays, "class_names")
    except _FAULTS as error:
        raise _unreadable(".npz", edges.file, error) from error
    directed = take_matrix(matrix, names, form.directed, edges)
    if labels and len(labels) != len(names):
        raise SourceError(f"has {len(labels):,} labels for {len(names):,} nodes; check the file", edges.file)
    for name, label in zip(names, labels, strict=False):
        attributes[name] = {"label": _label(label, classes)}
    return directed, attributes


def _strings(arrays: Any, name: str) -> list[str]:
    return [str(each) for each in arrays[name].tolist()] if name in arrays else []


def _label(label: Any, classes: list[str]) -> Json:
    if isinstance(label, list):  # a row of marks: which classes a node is of
        return [classes[k] if k < len(classes) else k for k, mark in enumerate(label) if mark]
    if isinstance(label, int) and 0 <= label < len(classes):
        return classes[label]
    return label if isinstance(label, int | float | str) and label == label else None


def _within_bounds(handle: IO[bytes]) -> None:
    """Raises UnpackingError where the arrays unpack to more than a file of this size should."""
    size = size_of(handle)
    with zipfile.ZipFile(handle) as archive:
        Budget(LIMITS).check(sum(member.file_size for member in archive.infolist()), size)
    handle.seek(0)


def read_mat(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take the adjacency matrix of a .mat file (up to version 7) and, if it has one, the matrix `group` of labels.

    The matrix is `network`, `A` or another usual name, that of a SuiteSparse `Problem`, or the only square one. Ids
    are row numbers from 1, as in Matlab; so are the groups of a node.

    Raises:
        SourceError: it is not such a file, or it cannot be told which matrix is meant.
    """
    from scipy import io, sparse

    try:
        shapes = {name: shape for name, shape, kind in io.whosmat(handle) if kind != "char"}
        chosen = _chosen(shapes, edges.file)
        handle.seek(0)
        found = io.loadmat(handle, variable_names=[chosen, "group"], spmatrix=False)
        matrix = found[chosen]
        if matrix.dtype.names and "A" in matrix.dtype.names:
            matrix = matrix["A"].item()
        group = found.get("group")
        matrix = sparse.csr_array(matrix)
        matrix.check_format(full_check=True)
        marks = None if group is None else sparse.csr_array(group)
    except SourceError:
        raise
    except NotImplementedError as error:
        raise SourceError("is a .mat file of version 7.3; save it with -v7", edges.file) from error
    except (*_FAULTS, io.matlab.MatReadError) as error:
        raise _unreadable(".mat", edges.file, error) from error
    names = _numbered(matrix.shape[0], 1)
    directed = take_matrix(matrix, names, form.directed, edges)
    if marks is None or marks.shape[0] != len(names):
        return directed, {}
    groups = np.split(marks.indices + 1, marks.indptr[1:-1])
    return directed, {
        name: {"group": some.tolist()} for name, some in zip(names, groups, strict=True) if len(some)
    }


def _chosen(shapes: dict[str, tuple[int, ...]], file: str) -> str:
    if "Problem" in shapes:
        return "Problem"
    square = [name for name, shape in shapes.items() if len(shape) == 2 and shape[0] == shape[1] > 1]
    usual = next((name for name in _MATLAB_NAMES if name in square), None)
    if usual is None and len(square) != 1:
        raise SourceError(
            f"has {len(square) or 'no'} square matrices among {', '.join(list(shapes)[:20]) or 'nothing'}; "
            "name the adjacency matrix 'network'",
            file,
        )
    return usual or square[0]


def take_arrays(given: Any, names: Sequence[str] | None, edges: Edges) -> None:
    """Take edges in memory: an array (m, 2) or (m, 3), or a tuple of sources, targets and, if any, weights.

    With `names` the ends are places in it, and further names are isolated nodes; else they are ids, as text.

    Raises:
        SourceError: the shape is another one, a weight is no positive number, or an end is not among the names.
    """
    if isinstance(given, tuple):
        columns = [np.asarray(each) for each in given]
    else:
        columns = list(np.asarray(given).T) if np.ndim(given) == 2 else []
    if len(columns) not in (2, 3) or len({each.shape for each in columns}) != 1 or columns[0].ndim != 1:
        raise SourceError(
            "edges in memory are an array (m, 2) or (m, 3), or (sources, targets, weights) of one length; "
            "give a matrix as scipy.sparse.csr_array(matrix)"
        )
    weights = None
    if len(columns) == 3:
        try:
            weights = columns[2].astype(np.float64)
        except (TypeError, ValueError) as error:
            raise SourceError(f"the weights are not numbers ({error}); give positive ones") from error
        for k in np.flatnonzero(~usable(weights)).tolist():
            edges.reject(f"the weight {weights[k]:g} is not a positive number", k + 1)
        good = usable(weights)
        columns, weights = [each[good] for each in columns[:2]], weights[good]
    sources, targets = (_numbers(column, names, edges) for column in columns[:2])
    if names is not None:
        edges.close()
    edges.add(sources, targets, weights)


def _numbers(column: NDArray[Any], names: Sequence[str] | None, edges: Edges) -> NDArray[np.int32]:
    if column.dtype.kind == "f" and bool((column == np.floor(column)).all()):
        column = column.astype(np.int64)  # whole numbers beside weights in one array
    if names is not None:
        if column.dtype.kind not in "iu" or (
            len(column) and not 0 <= column.min() <= column.max() < len(names)
        ):
            raise SourceError(f"an end is not a place among the {len(names):,} ids; count them from 0")
        edges.ids.numbers([name.encode() for name in names])
        if len(edges.ids) != len(names):
            raise SourceError("two nodes have the same id; rename one")
        return column.astype(np.int32)
    unique, places = (
        np.unique(column, return_inverse=True) if column.dtype.kind in "iuU" else _distinct(column)
    )
    return edges.ids.numbers([str(each).encode() for each in unique.tolist()])[places]


def _distinct(column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The different ids of a column of any objects; 1 and "1" would become one node and are refused."""
    place: dict[Any, int] = {}
    places = np.fromiter(
        (place.setdefault(each, len(place)) for each in column.tolist()), np.int64, len(column)
    )
    if len({str(each) for each in place}) < len(place):
        raise SourceError("two nodes have the same name as text; rename one")
    unique = np.empty(len(place), object)
    unique[:] = list(place)
    return unique, places
