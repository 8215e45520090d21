"""Bad input, by the thousand: made from a seed and a number, the same on every machine, judged by what is not ours.

`document` takes FITS files apart and puts them together again, damaged; `frames`, `compressed` and `headers` make frames
of it; `texts`, `answers` and `journals` everything else that is read; `judging` says what each must come to; `targets`
is the list of all.
"""
