"""Recipes: training stages as one job, their report, and comparisons over seeds."""
