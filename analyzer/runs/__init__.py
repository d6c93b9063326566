"""What an analysis stores: schema, tables, segments, run folders, provenance."""
