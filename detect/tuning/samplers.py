"""Samplers: how the settings of the next trial are chosen. What is drawn depends on the seed and the trial's number.

No generator has to be kept: a study that is continued, or shared by several processes, never draws the same twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from detect.errors import UserError
from detect.tuning.space import Space

SAMPLERS = ("tpe", "random", "grid", "cmaes")
STARTUP = 10  # trials at random before the tree-structured Parzen estimator
GRID = 4  # points of a range without a step
LARGEST_GRID = 10_000


def make_sampler(name: str, seed: int, space: Space, first: Mapping[str, Any]) -> BaseSampler:
    """The sampler of this name, one of `SAMPLERS`.

    Args:
        name: its name.
        seed: the seed of the study.
        space: the search space.
        first: the values of the first trial; empty: as any other. A grid has no such trial.

    Raises:
        UserError: the sampler needs a package that is not installed, or does not suit the space.
    """
    if name == "grid":
        return Grid(grid_of(space))
    if name == "cmaes":
        require_cmaes(space)
        return Seeded(lambda number: CmaEs(seed, space), seed, first)
    if name == "random":
        return Seeded(lambda number: RandomSampler(number), seed, first)
    return Seeded(_tpe, seed, first)


def _tpe(seed: int) -> BaseSampler:
    """The tree-structured Parzen estimator (Bergstra et al., 2011), over all options at once (Falkner et al., 2018).

    Trials that other processes are running count as bad ones, so that several do not try the same.
    """
    return TPESampler(n_startup_trials=STARTUP, multivariate=True, constant_liar=True, seed=seed)


class Seeded(BaseSampler):
    """Makes a sampler anew for each trial, with a seed of its own, and gives the first trial fixed values.

    Args:
        make: the sampler for a seed.
        seed: the seed of the study.
        first: the values of the first trial.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int, first: Mapping[str, Any]) -> None:
        self.make, self.seed, self.first = make, seed, first
        self.inner = make(0)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the sampler of this trial."""
        self.inner = self.make(int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0]))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None for the first trial, whose values are given."""
        given = self.first and not trial.number
        return {} if given else self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the sampler of this trial draws."""
        return self.inner.sample_relative(study, trial, search_space) if search_space else {}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """The given value of the first trial, or what the sampler draws."""
        if self.first and not trial.number:
            return self.first[name]
        return self.inner.sample_independent(study, trial, name, distribution)


def grid_of(space: Space) -> list[dict[str, Any]]:
    """Every combination of values: of a range each step, or `GRID` values from end to end.

    Raises:
        UserError: there are more than anyone could run.
    """
    values = [_points(one.distribution()) for one in space]
    if (count := math.prod(map(len, values))) > LARGEST_GRID:
        raise UserError(f"the grid has {count:,} points: vary fewer options, or give some a larger step or choices")
    return [dict(zip((one.name for one in space), point, strict=True)) for point in product(*values)]


def _points(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if step and not distribution.log and (step != 1 or high - low < GRID):
        points = np.arange(low, high + step / 2, step).tolist()
    elif distribution.log:
        points = np.geomspace(low, high, GRID).tolist()
    else:
        points = np.linspace(low, high, GRID).tolist()
    whole = isinstance(distribution, IntDistribution)
    return list(dict.fromkeys(round(one) if whole else min(max(one, low), high) for one in points))


class Grid(BaseSampler):
    """Takes the points of a grid one after the other.

    Args:
        points: the values of each.
    """

    def __init__(self, points: Sequence[Mapping[str, Any]]) -> None:
        self.points = points

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """None: each option is asked for by itself."""
        return {}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Nothing."""
        return {}

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """The value at the point of this trial: the next one that no trial before it has taken.

        Trials that take up a dead one bring its values and take no point.
        """
        others = study.get_trials(deepcopy=False)
        place = sum(1 for one in others if one.number < trial.number and "origin" not in one.user_attrs)
        return self.points[place % len(self.points)][name]


def require_cmaes(space: Space) -> None:
    """Check that CMA-ES can be used. Raises UserError: its package is missing, or options have no order."""
    try:
        import cmaes  # noqa: F401
    except ImportError as error:
        raise UserError("--sampler cmaes needs its package: pip install 'gridhead[tune]'") from error
    if len([one for one in space if one.kind != "choices"]) < 2:
        raise UserError("--sampler cmaes needs two options with a range at least: tpe takes any space")


class CmaEs(BaseSampler):
    """CMA-ES (Hansen and Ostermeier, 2001) over the options with a range; others are drawn at random.

    Optuna's own sampler keeps its state in the storage as a pickle, which nobody may load from a file or database that
    others write. Here the state is computed anew from the finished trials, generation by generation.

    Args:
        seed: the seed of the study.
        space: the search space.
    """

    def __init__(self, seed: int, space: Space) -> None:
        self.seed = seed
        self.ranges = {one.name: one.distribution() for one in space if one.kind != "choices"}

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The options with a range."""
        return self.ranges

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """A point of the present generation."""
        import cmaes

        count = len(search_space)
        size = 4 + math.floor(3 * math.log(count))
        unit = np.tile([0.0, 1.0], (count, 1))
        state = cmaes.CMA(np.full(count, 0.5), 0.25, bounds=unit, seed=self.seed, population_size=size)
        done = [one for one in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if one.number]
        sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
        for start in range(0, len(done) - size + 1, size):  # a generation is as many trials as have finished
            some = done[start : start + size]
            state.tell([(self._to_unit(one.params), sign * float(one.value or 0)) for one in some])
        state._rng = np.random.RandomState([self.seed % 2**32, trial.number])
        return self._from_unit(state.ask())

    def sample_independent(self, study: Study, trial: FrozenTrial, name: str, distribution: BaseDistribution) -> Any:
        """A random value."""
        return RandomSampler(self.seed + trial.number).sample_independent(study, trial, name, distribution)

    def _to_unit(self, params: Mapping[str, Any]) -> np.ndarray:
        """The values as places between the bounds, 0 to 1, on the scale of each."""
        found = []
        for name, (low, high, log) in self._scales().items():
            value = math.log(params[name]) if log else params[name]
            found.append((value - low) / (high - low))
        return np.array(found)

    def _from_unit(self, places: np.ndarray) -> dict[str, Any]:
        found = dict[str, Any]()
        for (name, (low, high, log)), place in zip(self._scales().items(), places.tolist(), strict=True):
            value, own = low + place * (high - low), self.ranges[name]
            assert isinstance(own, FloatDistribution | IntDistribution)
            value = min(max(math.exp(value) if log else value, own.low), own.high)
            step = own.step
            value = min(own.low + step * round((value - own.low) / step), own.high) if step and not log else value
            found[name] = round(value) if isinstance(own, IntDistribution) else value
        return found

    def _scales(self) -> dict[str, tuple[float, float, bool]]:
        """The lowest and highest value of each range, and whether both are logarithms."""
        found = {}
        for name, one in self.ranges.items():
            assert isinstance(one, FloatDistribution | IntDistribution)
            low, high = (math.log(one.low), math.log(one.high)) if one.log else (one.low, one.high)
            found[name] = low, high, one.log
        return found
