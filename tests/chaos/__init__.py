"""Runs that are killed, starved and fed with damaged files, at random and for as long as wanted.

``python tests/chaos --rounds 200 --seed 1 --out chaos.json``; see :mod:`chaos.__main__`. Every round draws what happens
from (seed, scenario, number of the round), so a failure is repeated by the seed and the scenario it names.
"""
