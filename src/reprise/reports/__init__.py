"""Figures and tables of an evaluated run: one module for each task, named by `Task.report`."""
