"""Compare implementations fairly: one process each, one block of steps each in turn, ratios per round.

``contest`` leads the processes, ``worker`` is what runs in them, ``clock`` and ``counting`` measure, ``summary`` and
``tables`` turn the measurements into ratios and text. The other modules build what is measured.
"""
