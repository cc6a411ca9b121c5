"""Compare implementations fairly: one process each, one block of steps each in turn, ratios per round.

``contest`` controls the processes, ``worker`` runs in them, ``clock`` and ``counting`` measure, ``summary`` and
``tables`` turn the measurements into ratios and text. The other modules build the measured tasks.
"""
