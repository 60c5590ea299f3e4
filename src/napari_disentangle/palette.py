"""Colours of groups and curves, the same in the window and in reports."""

COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#555555")
"""Okabe and Ito's palette: told apart by colour-blind readers too."""
