"""Arrays in, arrays out: combining, noise, models, fits. Knows nothing of files, headers or steps."""
