"""The colours of all pictures: Okabe and Ito's, which differ for all kinds of sight. Yellow is too light on white."""

BLACK, BLUE, SKY, GREEN = "#000000", "#0072B2", "#56B4E9", "#009E73"
VERMILION, PURPLE, ORANGE = "#D55E00", "#CC79A7", "#E69F00"
OLIVE, GREY = "#8A8A00", "#888888"  # two more, for what stands back

SERIES = (BLUE, VERMILION, GREEN, PURPLE, BLACK, SKY, ORANGE)
"""For series without a colour of their own, in order."""

METHODS = {
    "natural": BLACK,
    "SuperMix": BLUE,
    "SuperMix.fast": SKY,
    "exact": OLIVE,
    "CutMix": VERMILION,
    "MixUp": GREEN,
    "external": PURPLE,
}
MARKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h", "d")
"""Shapes, which differ too."""


def line(place: int) -> dict[str, str]:
    """Return colour and mark of the line that is drawn at this place among others."""
    return {"color": SERIES[place % len(SERIES)], "marker": MARKS[place % len(MARKS)]}
