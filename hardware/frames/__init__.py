"""Frames as they come and as they are kept: checks, files, and the journal beside them."""
