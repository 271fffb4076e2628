"""A collection's records and vectors as files that other programs read, and back again without loss."""
