"""A camera behind an ASCOM Alpaca server."""
