"""The tables of the catalog as SQLAlchemy sees them; their history stands in migrations."""

from __future__ import annotations

from sqlalchemy import Column, Float, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()

# One row: the counters that give each commit, record and part its number. Numbers are never used twice.
state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("uuid", Text, nullable=False),
    Column("commit_seq", Integer, nullable=False),
    Column("epoch", Integer, nullable=False),  # moves when compaction rewrites batches
    Column("next_record", Integer, nullable=False),
    Column("next_part", Integer, nullable=False),
    Column("spaces_seq", Integer, nullable=False),  # moves when anything in `space` changes
    Column("checksum", Integer, nullable=False),  # see checksums, as those of record, space and part
)

record = Table(
    "record",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text),
    Column("uri", Text),
    Column("text", Text),
    Column("metadata", Text, nullable=False),  # a JSON object
    Column("changed", Integer, nullable=False),  # the last commit that touched the record or its parts
    Column("checksum", Integer, nullable=False),
)
Index("record_by_changed", record.c.changed)

space = Table(
    "space",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("modality", Text, nullable=False),
    Column("dim", Integer, nullable=False),
    Column("metric", Text, nullable=False),
    Column("encoder", Text, nullable=False),  # EncoderSpec as JSON
    Column("probes", LargeBinary),  # vectors of fixed probe items, to notice a changed model
    Column("snapshot", Text),  # the index file this catalog vouches for, as JSON
    Column("tuning", Text),  # the search effort and the recall measured with it, as JSON
    Column("wanted", Text),  # what the user asked of the index: recall, memory, kind; as JSON
    Column("queries", LargeBinary),  # a sample of real queries to measure recall with, float32 rows
    Column("checksum", Integer, nullable=False),
)

part = Table(
    "part",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("record_key", Integer, nullable=False),
    Column("space_key", Integer, nullable=False),
    Column("start", Integer),
    Column("end", Integer),
    Column("box", Text),  # [x, y, width, height] as JSON
    Column("label", Text),  # of a detected object
    Column("score", Float),
    Column("checksum", Integer),  # of a piece; NULL where the part is a whole record
)
Index("part_by_record", part.c.record_key)

# The vectors of one commit in one space, packed: row i belongs to part part_keys[i] of record record_keys[i].
batch = Table(
    "batch",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("space_key", Integer, nullable=False),
    Column("commit_seq", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("part_keys", LargeBinary, nullable=False),  # int64, ascending, little-endian
    Column("record_keys", LargeBinary, nullable=False),  # int64, little-endian
    Column("vectors", LargeBinary, nullable=False),  # float32 rows, little-endian
    Column("checksum", Integer, nullable=False),  # crc32 over the three blobs in this order
    Column("first_part", Integer, nullable=False),
    Column("last_part", Integer, nullable=False),
    Column("pieces", Integer, nullable=False),  # 0 where every part is a whole record
)
Index("batch_by_part", batch.c.space_key, batch.c.last_part)

# Parts whose vectors still stand in a batch but must never be returned; emptied by compaction.
tombstone = Table(
    "tombstone",
    metadata,
    Column("part_key", Integer, primary_key=True),
    Column("space_key", Integer, nullable=False),
    Column("commit_seq", Integer, nullable=False),
)
Index("tombstone_by_space", tombstone.c.space_key, tombstone.c.commit_seq)

# Models that were learned from the user's own data; data is safetensors.
model = Table(
    "model",
    metadata,
    Column("sha256", Text, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

# What an ingest run has already taken in: the hash of the input behind a record's vectors in a space.
synced = Table(
    "synced",
    metadata,
    Column("space_key", Integer, primary_key=True),
    Column("record_key", Integer, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("origin", Text, nullable=False),
    sqlite_with_rowid=False,
)

# Every metadata field that a record has had, nested ones with dots, so that a misspelt filter is an error.
field = Table("field", metadata, Column("name", Text, primary_key=True), sqlite_with_rowid=False)

# A small picture of a record, for the pages that show hits.
thumbnail = Table(
    "thumbnail",
    metadata,
    Column("record_key", Integer, primary_key=True),
    Column("side", Integer, nullable=False),  # the longest that was asked for, in pixels
    Column("data", LargeBinary, nullable=False),  # a WebP file
    Column("checksum", Integer, nullable=False),  # crc32 over the key, in 8 bytes little-endian, and the data
)

# What is known of the graph of a space, beside its edges.
graph = Table(
    "graph",
    metadata,
    Column("space_key", Integer, primary_key=True),
    Column("directed", Integer, nullable=False),
    Column("n_blocks", Integer, nullable=False),
    Column("n_entries", Integer, nullable=False),
    Column("added", Text, nullable=False),  # the files that edges were added from, as JSON
    Column("checksum", Integer, nullable=False),  # crc32 over the others as a JSON array
)

# Edges, packed: the neighbours of the records from `first` to `last`, by their keys; see edges.
edge_block = Table(
    "edge_block",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("space_key", Integer, nullable=False),
    Column("layer", Integer, nullable=False),  # 0 what the graph was learned from, 1 what was added since
    Column("side", Integer, nullable=False),  # 0 where edges lead, 1 where they come from
    Column("first", Integer, nullable=False),
    Column("last", Integer, nullable=False),
    Column("n_nodes", Integer, nullable=False),
    Column("n_entries", Integer, nullable=False),
    Column("loops", Integer, nullable=False),
    Column("wide", Integer, nullable=False),  # whether keys take 8 bytes, else 4
    Column("weighted", Integer, nullable=False),  # 0 where every weight is 1
    Column("data", LargeBinary, nullable=False),
    Column(
        "checksum", Integer, nullable=False
    ),  # crc32 over the numbers before, as a JSON array, and the data
)
Index("edge_block_by_node", edge_block.c.space_key, edge_block.c.layer, edge_block.c.side, edge_block.c.last)

# Which migrations have been applied, and when.
migration = Table(
    "migration",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("applied", Text, nullable=False),
)
