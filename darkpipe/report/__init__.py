"""Pictures and tables of what was measured; numbers come in as arrays and plain rows, nothing is read from disk."""
