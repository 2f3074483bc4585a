"""From trained weights to answers: predictors, explanations, and predictions for files."""
