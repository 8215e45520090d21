"""Settings as people write them: the sections of the two guides, to the letter."""

from __future__ import annotations

CAPTURE_GUIDE = """
dark_capture:
  num_darks: 20                    # Darks per exposure time
  flat_exposure_time: null         # Auto-detected from flats
  science_exposure_time: 1.0       # Science image exposure
  min_exposure: 0.001              # 1ms for bias frames
  max_exposure: 60.0               # 60s maximum
  exposure_factors: [0.5, 1.0, 2.0, 4.0]  # Extended range
  output_dir: "darks"              # Output directory
"""
COOLING_GUIDE = """
camera:
  sensor_width: 36.0    # Sensor width in mm
  sensor_height: 24.0   # Sensor height in mm
  pixel_size: 3.76      # Pixel size in micrometers
  type: "mono"          # Camera type (mono, color)
  bit_depth: 16         # Bit depth
  cooling:
    enable_cooling: true           # Enable camera cooling
    target_temperature: -10.0      # Target temperature in Celsius
    auto_cooling: true             # Auto-cooling mode
    cooling_timeout: 300           # Cooling timeout in seconds
    temperature_tolerance: 1.0     # Temperature tolerance in Celsius
    wait_for_cooling: true         # Wait for target temperature before capture
"""
