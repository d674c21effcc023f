"""Linear layers in 8 bits, for inference on a CPU."""

import warnings
from typing import Any


def with_int8(model: Any) -> Any:
    """Return a copy of a torch model whose linear layers hold 8-bit weights and round what they read as they go.

    Dynamic quantisation: weights to int8 once, inputs batch by batch, sums in float. Nothing is calibrated.

    Args:
        model: in evaluation mode, on the CPU.
    """
    import torch

    with warnings.catch_warnings():
        # torch names torchao as its successor: one more package for one call
        warnings.filterwarnings("ignore", category=DeprecationWarning, module="torch")
        warnings.filterwarnings("ignore", message=".*(torch.ao.quantization|quantize_per_tensor).*")
        quantize: Any = torch.ao.quantization.quantize_dynamic
        return quantize(model, {torch.nn.Linear}, dtype=torch.qint8)
