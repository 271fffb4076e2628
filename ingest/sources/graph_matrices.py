"""Reads graphs that are matrices: MatrixMarket, scipy's and the benchmarks' .npz, .mat, and arrays in memory."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ingest.sources.edge_format import EdgeFormat
from ingest.sources.edge_lists import LONGEST, blocks, take_lines
from ingest.sources.edges import Attributes, Edges, NodeMatrix, usable
from ingest.sources.graph_texts import MOST_NODES, place_of
from ingest.sources.ids import WholeIds
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
    # scipy's reader ends the process where it meets a stream that it does not like; an edge list is all it takes
    head = handle.readline(LONGEST).split()
    fields = [word.decode("latin-1").lower() for word in head[1:]]
    if head[:1] != [b"%%MatrixMarket"] or fields[:2] != ["matrix", "coordinate"] or len(fields) != 4:
        raise SourceError("is no MatrixMarket file of a matrix in coordinates; check the file", edges.file, 1)
    if fields[2] not in ("real", "integer", "pattern") or fields[3] not in ("general", "symmetric"):
        raise SourceError(f"holds a {fields[3]} matrix of {fields[2]} numbers; give real ones", edges.file, 1)
    line, sizes = 2, handle.readline(LONGEST)
    while sizes.lstrip()[:1] == b"%" or (sizes and not sizes.strip()):
        line, sizes = line + 1, handle.readline(LONGEST)
    numbers = [int(each) for each in sizes.split() if each.isdigit() and len(each) < 12]
    if len(numbers) != 3:
        raise SourceError("does not say how many rows, columns and entries there are", edges.file, line)
    n, n_columns, entries = numbers
    numbered = Edges(edges.file)
    line += 1
    for data in blocks(handle, edges.file):
        line += take_lines(data, line, numbered)
    sources, targets, weights = numbered.taken()
    there = len(sources) + len(numbered.rejected) + numbered.untold
    if n != n_columns or n > MOST_NODES or n > 1_000_000 + 1_000 * there:
        raise SourceError(
            f"declares {n:,} x {n_columns:,} for {there:,} entries; an adjacency matrix is square", edges.file
        )
    edges.reject_all_of(numbered)
    if there != entries:
        edges.reject(f"{entries:,} entries are declared and {there:,} are there; the file may be cut off")
    names = _numbered(n, 1)
    edges.ids.numbers([name.encode() for name in names])
    edges.close()
    known = place_of(numbered, edges, "row ")
    sources, targets = known[sources], known[targets]
    if fields[3] == "symmetric":
        edges.add(sources, targets, weights)
        return form.directed is True
    return _take_general(sources, targets, weights, form.directed, edges)


def _take_general(
    sources: NDArray[np.int32],
    targets: NDArray[np.int32],
    weights: NDArray[np.float64] | None,
    directed: bool | None,
    edges: Edges,
) -> bool:
    """Take entries of a matrix that may be symmetric though it does not say so."""
    if directed is not True:
        from scipy import sparse

        n = edges.declared or 0
        inside = np.maximum(sources, targets) < n
        values = np.ones(len(sources)) if weights is None else weights
        matrix = sparse.coo_array((values[inside], (sources[inside], targets[inside])), shape=(n, n)).tocsr()
        symmetric = _is_symmetric(matrix)
        directed = not symmetric if directed is None else directed
        if symmetric:  # each edge stands there twice
            keep = (sources <= targets) | ~inside
            sources, targets = sources[keep], targets[keep]
            weights = None if weights is None else weights[keep]
    edges.add(sources, targets, weights)
    return directed


def read_npz(handle: IO[bytes], form: EdgeFormat, edges: Edges) -> tuple[bool, Attributes]:
    """Take a sparse matrix as scipy.sparse.save_npz writes it, or a graph in the layout of the GNN benchmarks.

    The latter has `adj_data`, `adj_indices`, `adj_indptr` and `adj_shape`, and may have `node_names`, `labels`
    with `class_names`, and a matrix of attributes, as `attr_data` and so on or dense as `attr_matrix`. Without names
    ids are row numbers from 0.

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
            told = _attribute_matrix(arrays)
    except _FAULTS as error:
        raise _unreadable(".npz", edges.file, error) from error
    directed = take_matrix(matrix, names, form.directed, edges)
    if labels and len(labels) != len(names):
        raise SourceError(f"has {len(labels):,} labels for {len(names):,} nodes; check the file", edges.file)
    for name, label in zip(names, labels, strict=False):
        attributes[name] = {"label": _label(label, classes)}
    if told is not None:
        if told.shape[0] != len(names):
            raise SourceError(
                f"has attributes of {told.shape[0]:,} nodes for {len(names):,} nodes; check the file",
                edges.file,
            )
        edges.matrix = NodeMatrix(tuple(names), told)
    return directed, attributes


def _attribute_matrix(arrays: Any) -> Any:
    """The matrix (n, f) of attributes, sparse, or None.

    Raises:
        ValueError: it is no matrix of finite numbers.
    """
    from scipy import sparse

    if "attr_indptr" in arrays:
        parts = tuple(arrays[f"attr_{name}"] for name in ("data", "indices", "indptr"))
        matrix = sparse.csr_array(parts, shape=tuple(arrays["attr_shape"].tolist()))
    elif "attr_matrix" in arrays:
        matrix = sparse.csr_array(arrays["attr_matrix"])
    else:
        return None
    matrix.check_format(full_check=True)
    if matrix.ndim != 2 or matrix.dtype.kind not in "biuf" or not np.isfinite(matrix.data).all():
        raise ValueError("its attributes are no matrix of finite numbers")
    return matrix


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
        columns = [_column(each) for each in given]
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
    ends = [_whole(column) for column in columns[:2]]
    if names is not None:
        sources, targets = (_places(column, names) for column in ends)
        edges.ids.numbers([name.encode() for name in names])
        if len(edges.ids) != len(names):
            raise SourceError("two nodes have the same id; rename one")
    else:
        sources, targets = _named(ends, edges)
    edges.add(sources, targets, weights)


def _column(given: Any) -> NDArray[Any]:
    """A column as an array, of objects where they are of several kinds, so that 1 stays apart from "1"."""
    if isinstance(given, np.ndarray) or len({type(each) for each in given}) < 2:
        return np.asarray(given)
    column = np.empty(len(given), object)
    column[:] = given
    return column


def _whole(column: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers that stand beside weights in one array, as such."""
    if column.dtype.kind == "f" and bool((column == np.floor(column)).all()):
        return column.astype(np.int64)
    return column


def _places(column: NDArray[Any], names: Sequence[str]) -> NDArray[np.int32]:
    if column.dtype.kind not in "iu" or (len(column) and not 0 <= column.min() <= column.max() < len(names)):
        raise SourceError(f"an end is not a place among the {len(names):,} ids; count them from 0")
    return column.astype(np.int32)


def _named(ends: list[NDArray[Any]], edges: Edges) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The numbers of sources and targets that are ids; 1 and "1" would become one node, and are refused."""
    n = len(ends[0])
    if {each.dtype.kind for each in ends} == {"i"}:
        whole = WholeIds(edges.ids)
        return whole.numbers(ends[0].astype(np.int64)), whole.numbers(ends[1].astype(np.int64))
    if {each.dtype.kind for each in ends} in ({"u"}, {"U"}):
        unique, places = np.unique(np.concatenate(ends), return_inverse=True)
        names = [str(each) for each in unique.tolist()]
    else:
        place: dict[Any, int] = {}
        every = [each for column in ends for each in column.tolist()]
        places = np.fromiter((place.setdefault(each, len(place)) for each in every), np.int64, 2 * n)
        names = [str(each) for each in place]
        if len(set(names)) < len(names):
            raise SourceError("two nodes have the same name as text; rename one")
    numbers = edges.ids.numbers([name.encode(errors="replace") for name in names])[places]
    return numbers[:n], numbers[n:]
