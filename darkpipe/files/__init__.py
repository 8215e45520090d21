"""Everything on disk: raw frames in, headers, atomic writes, tables, products and their places."""
