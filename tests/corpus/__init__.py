"""Bad input, by the thousand: made from a seed and a number, the same on every machine, judged by what is not ours.

`document` takes FITS files apart and puts them together again, damaged; `frames`, `headers` and `compressed` make
frames of it; `chance` damages good ones; `texts`, `answers` and `journals` make everything else that is read; `judging`
says what each must come to; `targets` is the list of all.
"""
