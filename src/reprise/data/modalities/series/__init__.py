"""Series: values of several channels over time, to forecast from windows."""
