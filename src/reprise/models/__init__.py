"""Networks: plain `torch.nn.Module`s that know nothing of Lightning, Hydra or MLflow.

Each takes `input_shape` (channels last: `[H, W, C]` or `[T, C]`) and `outputs` (how many numbers it gives a sample), and maps
`float32 [B, *input_shape]` to `[B, outputs]`.
"""
