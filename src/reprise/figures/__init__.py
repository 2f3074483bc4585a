"""Functions from arrays to matplotlib figures, in one colour-blind-safe style, sized for MLflow's artifact view.

style.py holds the shared parts. There is one module per subject: training, classification, forecasting, network, comparison.
"""
