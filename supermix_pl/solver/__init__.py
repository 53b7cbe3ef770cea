"""How the masks of a set of k sources are found (Sections 3.1-3.3 of Dabouei et al., 2021)."""

from supermix_pl.solver.driver import advance, solve
from supermix_pl.solver.rounds import Solver
from supermix_pl.solver.state import Outcome, Sets, Solution, SolverState
from supermix_pl.solver.update_rules import SGD, Newton, NewtonSmoothProjection, UpdateRule

__all__ = [
    "SGD",
    "Newton",
    "NewtonSmoothProjection",
    "Outcome",
    "Sets",
    "Solution",
    "Solver",
    "SolverState",
    "UpdateRule",
    "advance",
    "solve",
]
