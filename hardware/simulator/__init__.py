"""A camera that is not there: sensor, cooler and driver in process, and the same camera behind an Alpaca server."""
