"""The parts of `hardware.cooling`: thermometer, switch, set point, stability, warm-up."""
