"""Improvement: the recipe carried out step by step, in a run that survives interruption."""
