"""Forecast ETTh1 96 hours ahead with NLinear of neuralforecast: published borders, lookback 336, every test window counted.

    python neuralforecast_etth1.py FILE [--seed 0]

FILE is ETTh1.csv. Prints JSON with the MSE of standardised values.
"""

import argparse
import json

import numpy as np
import pandas as pd
from neuralforecast import NeuralForecast
from neuralforecast.models import NLinear

TRAIN, VAL, TEST, HORIZON, LOOKBACK = 8640, 2880, 2880, 96, 336


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    table = pd.read_csv(arguments.file, parse_dates=["date"]).iloc[: TRAIN + VAL + TEST]
    values = table.drop(columns="date")
    scaled = (values - values.iloc[:TRAIN].mean()) / values.iloc[:TRAIN].std(ddof=0)
    long = scaled.assign(ds=table["date"]).melt("ds", var_name="unique_id", value_name="y")
    model = NLinear(
        h=HORIZON,
        input_size=LOOKBACK,
        max_steps=2000,
        val_check_steps=50,
        early_stop_patience_steps=5,
        learning_rate=5e-3,
        random_seed=arguments.seed,
        enable_progress_bar=False,
        logger=False,
    )
    forecasts = NeuralForecast([model], freq="h").cross_validation(
        long, val_size=VAL, test_size=TEST, n_windows=None, step_size=1
    )
    error = float(np.mean((forecasts["y"] - forecasts["NLinear"]) ** 2))
    print(json.dumps({"value": error, "windows": len(forecasts) // (HORIZON * values.shape[1])}))


if __name__ == "__main__":
    main()
