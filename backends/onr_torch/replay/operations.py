"""The operations that the replay knows, by the name of the torch function."""

__all__ = [
    "AFFINE",
    "DROPOUT",
    "ELEMENTWISE",
    "FLAGGED",
    "JOINED",
    "LIKE",
    "LINEAR",
    "MEMORY",
    "PIECEWISE_LINEAR",
    "PRODUCTS",
    "QUOTIENTS",
    "SUMS",
]

# fmt: off
ELEMENTWISE = frozenset({
    "celu", "elu", "gelu", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "log_sigmoid",
    "mish", "relu6", "selu", "sigmoid", "silu", "softplus", "softsign", "tanh",
})
"""Entry by entry: the derivative is one number an entry, found once."""
FLAGGED = ELEMENTWISE | {"_threshold", "relu", "rrelu"}
"""A flag tells these to work in place."""
PIECEWISE_LINEAR = frozenset({"leaky_relu", "max_pool2d", "relu"})
LINEAR = frozenset({
    "T", "__getitem__", "__neg__", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "avg_pool1d",
    "avg_pool2d", "broadcast_to", "chunk", "clone", "contiguous", "diagonal", "double", "expand",
    "expand_as", "flatten", "flip", "float", "index_select", "mT", "mean", "moveaxis", "movedim",
    "narrow", "neg", "permute", "pixel_shuffle", "pixel_unshuffle", "ravel", "repeat", "reshape",
    "reshape_as", "roll", "select", "split", "squeeze", "sum", "swapaxes", "swapdims", "t", "tile",
    "to", "transpose", "type_as", "unbind", "unflatten", "unfold", "unsqueeze", "view", "view_as",
})
"""Linear in the first tensor; of others the shape counts, or they are indices."""
LIKE = frozenset({"expand_as", "reshape_as", "to", "type_as", "view_as"})
"""These give a constant if the first tensor is one."""
JOINED = frozenset({"cat", "concat", "concatenate", "stack"})
"""Linear in all their tensors together; a constant among these counts as zero."""
SUMS = frozenset({
    "__add__", "__iadd__", "__isub__", "__radd__", "__rsub__", "__sub__", "add", "sub", "subtract",
})
"""The same of two terms, either of which may be a number."""
PRODUCTS = frozenset({
    "__imul__", "__matmul__", "__mul__", "__rmatmul__", "__rmul__", "bmm", "einsum", "matmul",
    "mm", "mul", "multiply",
})
"""Linear in each of their tensors: one of them may depend on the input."""
QUOTIENTS = frozenset({"__itruediv__", "__truediv__", "div", "divide", "true_divide"})
AFFINE = frozenset({
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
    "linear",
})
"""Functions of an input, a weight and a bias."""
DROPOUT = frozenset({
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
})
MEMORY = frozenset({"as_strided", "data", "data_ptr"})
"""These reach the memory behind a tensor."""
# fmt: on
