"""Each figure of the README has a script here."""
