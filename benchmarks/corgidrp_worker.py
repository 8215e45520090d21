"""Runs corgidrp.darks on arrays from files, for `noise_maps.py`; started with the interpreter that has corgidrp.

One request a line on stdin, as JSON with an "op"; one answer a line on stdout. Nothing of this project is imported:
the other environment does not have it.
"""

import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np


class Worker:
    """Keeps the dataset of the last `load` and the maps of the last `calibrate`."""

    def __init__(self):
        from astropy.time import Time
        from corgidrp import darks, data, mocks

        self.darks, self.data, self.mocks = darks, data, mocks
        self.params = data.DetectorParams({}, date_valid=Time("2023-11-01 00:00:00", scale="utc"))

    def frame(self, image, bits, em_gain, exposure_s):
        """A frame with the header that corgidrp asks for."""
        primary, header, errors, quality = self.mocks.create_default_calibration_product_headers()
        header["EMGAIN_C"], header["EXPTIME"], header["KGAINPAR"], header["SAT_DN"] = em_gain, exposure_s, 7.0, 1e12
        header["EMGAIN_A"] = -1.0
        header.pop("EMGAIN_M", None)
        out = self.data.Image(
            image, pri_hdr=primary, ext_hdr=header, err=np.zeros(image.shape), dq=bits.astype(np.uint16),
            err_hdr=errors, dq_hdr=quality,
        )  # fmt: skip
        out.filename = "cgi_0000000000000000000_20250101t0000000_l2a.fits"
        return out

    def load(self, request):
        """Frames of every stack into a dataset."""
        folder = Path(request["folder"])
        frames = []
        for i, (em_gain, exposure_s) in enumerate(request["grid"]):
            images, bits = np.load(folder / f"frames{i}.npy"), np.load(folder / f"masks{i}.npy")
            frames += [self.frame(a, b, em_gain, exposure_s) for a, b in zip(images, bits, strict=True)]
        self.regions = request["regions"]
        self.dataset = self.data.Dataset(frames)
        return {}

    def calibrate(self, request):
        """calibrate_darks_lsq; the maps go to a file where one is named."""
        start, cpu = time.perf_counter(), time.process_time()
        self.maps = self.darks.calibrate_darks_lsq(
            self.dataset, self.params, weighting=request["weighting"], detector_regions=self.regions
        )
        taken = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        if request.get("save"):
            header = self.maps.ext_hdr
            np.savez(request["save"], data=self.maps.data, err=self.maps.err[0], dq=self.maps.dq)
            taken.update({name: float(header[name]) for name in ("B_O", "B_O_ERR", "FPN_IMM", "CIC_IMM", "DC_IMM")})
        return taken

    def dark(self, request):
        """build_trad_dark of the first stack, and build_synthesized_dark of its setting."""
        first = self.data.Dataset([f.copy() for f in self.dataset.frames[: request["frames"]]])
        start = time.perf_counter()
        dark = self.darks.build_trad_dark(first, self.params, detector_regions=self.regions, full_frame=True)
        middle = time.perf_counter()
        made = self.darks.build_synthesized_dark(first, self.maps, detector_regions=self.regions, full_frame=True)
        end = time.perf_counter()
        np.savez(request["save"], dark=dark.data, error=dark.err[0], made=made.data, made_error=made.err[0])
        return {"traditional_s": middle - start, "synthesised_s": end - middle}


def main():
    """Answer until stdin ends."""
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # corgidrp prints
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(getattr(worker, request["op"])(request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
