"""Trains with matrix products as an accelerator makes them in bfloat16, on a CPU.

    python experiments/precision.py map=2s3z seeds=12 seed=100 total_steps=300_000

What ``matmul=bfloat16`` asks for, a CPU does not do. Here both operands of every product in the compiled
program, those of gradients included, are rounded to bfloat16 (8 bits of mantissa, 7 of them stored), and
multiplied and added up in float32: the numbers of an accelerator, but for the order of sums; the speed of a
CPU. All words are those of seca_jax.train.
"""

import sys
from typing import Any

import jax
from jax._src.lax.lax import _dot_general_lower  # what the program of a product is made by
from jax.extend.core.primitives import dot_general_p
from jax.extend.mlir.dialects import stablehlo
from jax.interpreters import mlir

from seca_jax.train import main


def lower(context: Any, left: Any, right: Any, **parameters: Any) -> Any:
    """The program of a product: its operands rounded, then as JAX has it."""
    operands = (stablehlo.reduce_precision(x, exponent_bits=8, mantissa_bits=7) for x in (left, right))
    return _dot_general_lower(context, *operands, **parameters)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    mlir.register_lowering(dot_general_p, lower, platform="cpu")
    sys.exit(main(sys.argv[1:]))
