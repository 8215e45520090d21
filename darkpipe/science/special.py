"""Functions of scipy that are imported when one of them is first called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from darkpipe.deferred import called_later

if TYPE_CHECKING:
    from scipy.ndimage import gaussian_filter as gaussian_filter
    from scipy.optimize import brentq as brentq
    from scipy.special import betainc as betainc
    from scipy.special import fdtr as fdtr
    from scipy.special import fdtrc as fdtrc
    from scipy.special import gammainc as gammainc
    from scipy.special import gammainccinv as gammainccinv
    from scipy.special import gammaincinv as gammaincinv
    from scipy.special import gammaln as gammaln
    from scipy.special import log_ndtr as log_ndtr
    from scipy.special import ndtr as ndtr
    from scipy.special import ndtri as ndtri
    from scipy.special import stdtr as stdtr
else:
    gaussian_filter = called_later("scipy.ndimage", "gaussian_filter")
    brentq = called_later("scipy.optimize", "brentq")
    betainc = called_later("scipy.special", "betainc")
    fdtr = called_later("scipy.special", "fdtr")
    fdtrc = called_later("scipy.special", "fdtrc")
    gammainc = called_later("scipy.special", "gammainc")
    gammainccinv = called_later("scipy.special", "gammainccinv")
    gammaincinv = called_later("scipy.special", "gammaincinv")
    gammaln = called_later("scipy.special", "gammaln")
    log_ndtr = called_later("scipy.special", "log_ndtr")
    ndtr = called_later("scipy.special", "ndtr")
    ndtri = called_later("scipy.special", "ndtri")
    stdtr = called_later("scipy.special", "stdtr")
