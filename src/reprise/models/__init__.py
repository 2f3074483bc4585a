"""Networks: plain `torch.nn.Module`s, independent of Lightning, Hydra and MLflow.

Constructors take `input_shape` (channels last: `[H, W, C]` or `[T, C]`) and `outputs` (number of outputs per sample). Networks
map `float32 [B, *input_shape]` to `[B, outputs]`. A constructor may have parameters named as in windows.json, such as
`target_positions` (positions of the target channels among the inputs) and `season` (steps of a season); it then gets them.

- Networks for sequences with `masked` read the steps before the padding from the last input channel.
- A network with a method `penalty()` has a loss term of its own, to be added to the loss of the task after each forward pass.
- Models in closed form are computed, not trained: see `ClosedForm`.
"""
