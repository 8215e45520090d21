"""Which frames are taken, in which order, at which cost, and which of them are there."""
