"""All that a training of a given time needs, with the largest of its recipe's networks that the time is enough for."""

from dataclasses import replace

from resnetkit.api.preparing import Prepared, Ready, made_ready
from resnetkit.catalog.architectures import architecture
from resnetkit.training.duration import plan_budget
from resnetkit.training.planning import PASSES_FOR_LARGER
from resnetkit.training.processes import Processes
from resnetkit.training.progress import Listener, Remark


def ready_in(
    minutes: float, prepared: Prepared, workers: int | None, processes: Processes, listener: Listener, *, began: float
) -> Ready:
    """As `made_ready`, with the budget of `minutes` since `began` in the plan.

    The recipe's larger networks are tried one after the other, for as long as the time is enough for them.
    """

    def enough(ready: Ready) -> bool:
        # One process decides for all, whose clocks differ.
        return processes.told_by_first(_passes(ready) >= PASSES_FOR_LARGER)

    ready = _budgeted(minutes, prepared, workers, processes, listener, began)
    for name in prepared.plan.recipe.larger_models:
        if not enough(ready):  # much less for a larger one
            break
        larger = _budgeted(minutes, _with_model(prepared, name), workers, processes, listener, began)
        if not enough(larger):
            break
        listener(Remark(f"note: {minutes:g} min are enough for {_passes(larger):.0f} epochs with {name}"))
        ready = larger
    return ready


def _budgeted(
    minutes: float, prepared: Prepared, workers: int | None, processes: Processes, listener: Listener, began: float
) -> Ready:
    ready = made_ready(prepared, workers, processes, listener)
    # Several processes count their steps out beforehand, as their clocks need not agree.
    counted = replace(ready.plan, deterministic=ready.plan.deterministic or processes.count > 1)
    budget = plan_budget(minutes, ready.network, counted, ready.train, ready.val, began=began)
    return replace(ready, plan=replace(ready.plan, budget=budget))


def _passes(ready: Ready) -> float:
    assert ready.plan.budget is not None
    return ready.plan.budget.steps / len(ready.train)


def _with_model(prepared: Prepared, name: str) -> Prepared:
    plan = prepared.plan
    model = replace(plan.model, name=name, row=architecture(name))
    return replace(prepared, plan=replace(plan, model=model, recipe=replace(plan.recipe, model=name)))
