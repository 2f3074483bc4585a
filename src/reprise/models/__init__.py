"""Networks: plain `torch.nn.Module`s, independent of Lightning, Hydra and MLflow.

Constructors take `input_shape` (channels last: `[H, W, C]` or `[T, C]`) and `outputs` (number of outputs per sample). Networks
map `float32 [B, *input_shape]` to `[B, outputs]`.
"""
