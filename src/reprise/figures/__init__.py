"""Arrays in, matplotlib figures out: one style, legible for the colour-blind, readable at the size MLflow shows them.

style.py holds what they share; then one file a subject: training, classification, forecasting, network, comparison.
"""
