"""The PyTorch backend: any ``torch.nn.Module``, on CPU or CUDA."""

from onr.hookspecs import Entry, hookimpl


@hookimpl
def onr_backends() -> list[Entry]:
    """Offer the backend."""
    return [Entry("torch", "onr_torch.backend:TorchBackend", "any nn.Module, on CPU or CUDA")]
