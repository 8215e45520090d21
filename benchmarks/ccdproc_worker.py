"""Subtracts a dark with ccdproc, for `calibrate.py`; started with the interpreter that has ccdproc.

One request a line on stdin, as JSON: files of the light above its bias, of the master dark above its bias, their
exposures, and where the answer goes; one line on stdout when it is there. Nothing of this project is imported: the
other environment does not have it.
"""

import json
import sys
import warnings

import numpy as np


def main():
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")
    import astropy.units as u
    import ccdproc
    from astropy.nddata import CCDData

    for line in sys.stdin:
        asked = json.loads(line)
        light, dark = (CCDData(np.load(asked[name]), unit=u.adu) for name in ("light", "dark"))
        done = ccdproc.subtract_dark(
            light,
            dark,
            dark_exposure=asked["dark_s"] * u.second,
            data_exposure=asked["light_s"] * u.second,
            scale=True,
        )
        np.save(asked["out"], done.data)
        print(json.dumps({"version": ccdproc.__version__}), flush=True)


if __name__ == "__main__":
    main()
