"""The operations that the replay knows, grouped by rule, by the name of the torch function."""

__all__ = [
    "AFFINE",
    "DROPOUT",
    "ELEMENTWISE",
    "FLAGGED",
    "FORM",
    "JOINED",
    "LIKE",
    "LINEAR",
    "MEMORY",
    "PIECEWISE_LINEAR",
    "PRODUCTS",
    "QUOTIENTS",
    "SUMMED_PRODUCTS",
    "SUMS",
    "WHOLES",
]

# fmt: off
ELEMENTWISE = frozenset({
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "leaky_relu", "log_sigmoid", "mish", "prelu",
    "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
})
"""Functions that work entry by entry: the derivative is one number for each, computed once."""
FLAGGED = ELEMENTWISE | {"_threshold", "hardtanh", "relu", "relu6", "rrelu"}
"""Functions with a flag that makes them work in place."""
PIECEWISE_LINEAR = frozenset({"hardtanh", "leaky_relu", "max_pool2d", "relu", "relu6"})
"""Functions whose derivative is locally constant: a mask, or the winners of windows."""
LINEAR = frozenset({
    "T", "__getitem__", "__neg__", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d",
    "avg_pool2d", "broadcast_to", "chunk", "clone", "contiguous", "diagonal", "double", "expand",
    "expand_as", "flatten", "flip", "float", "index_select", "interpolate", "mT", "mean",
    "moveaxis", "movedim", "narrow", "neg", "permute", "pixel_shuffle", "pixel_unshuffle",
    "ravel", "repeat", "reshape", "reshape_as", "roll", "select", "split", "squeeze", "sum",
    "swapaxes", "swapdims", "t", "tile", "to", "transpose", "type_as", "unbind", "unflatten",
    "unfold", "unsqueeze", "view", "view_as",
})
"""Functions linear in the first tensor; other tensors give a shape or dtype, or are indices."""
LIKE = frozenset({"expand_as", "reshape_as", "to", "type_as", "view_as"})
"""Functions whose result is constant if their first tensor is constant."""
FORM = frozenset({
    "device", "dim", "dtype", "empty_like", "full_like", "is_floating_point", "ndim", "new_empty",
    "new_full", "new_ones", "new_zeros", "numel", "ones_like", "shape", "size", "zeros_like",
})
"""Functions of the shape, dtype and device of a tensor alone; their results are constants."""
JOINED = frozenset({"cat", "concat", "concatenate", "stack"})
"""Functions linear in all their tensors jointly; the derivative replaces constants by zero."""
SUMS = frozenset({
    "__add__", "__iadd__", "__isub__", "__radd__", "__rsub__", "__sub__", "add", "sub", "subtract",
})
"""Sums of two terms, tensors or numbers; the derivative replaces constants by zero."""
PRODUCTS = frozenset({
    "__imul__", "__matmul__", "__mul__", "__rmatmul__", "__rmul__", "bmm", "einsum", "matmul",
    "mm", "mul", "multiply",
})
"""Functions linear in each tensor separately; linear if one tensor depends on the input."""
SUMMED_PRODUCTS = frozenset({"addcmul", "addmm", "baddbmm"})
"""A tensor plus a product; linear if one factor depends on the input, the other not."""
QUOTIENTS = frozenset({"__itruediv__", "__truediv__", "div", "divide", "true_divide"})
"""Functions linear in the numerator, if the denominator does not depend on the input."""
AFFINE = frozenset({
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "linear",
})
"""Functions of an input, a weight and a bias."""
DROPOUT = frozenset({
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
})
"""Functions that are the identity in evaluation mode; they are refused in training mode."""
WHOLES = frozenset({"multi_head_attention_forward"})
"""Functions written in Python of operations that have rules; they are recorded by their parts."""
MEMORY = frozenset({"as_strided", "data", "data_ptr"})
"""Functions that reach the memory behind a tensor; they are refused."""
# fmt: on
