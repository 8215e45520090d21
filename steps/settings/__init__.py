"""The settings of each step, apart from the step itself: to show or check them, nothing heavy is imported."""
