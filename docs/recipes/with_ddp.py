"""Data parallelism: torchrun --nproc-per-node 2 with_ddp.py."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import onr_torch

distributed.init_process_group("gloo")  # nccl on GPUs
torch.manual_seed(0)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:1500, None] / 16
y = torch.from_numpy(digits.target)[:1500]
dataset = TensorDataset(torch.arange(len(x)), x, y)
loader = DataLoader(dataset, batch_size=50, sampler=DistributedSampler(dataset))

module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
model = DistributedDataParallel(module)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
# Each process remembers the examples that it has seen itself.
reg = onr_torch.OperatorNormRegularizer(p="inf", q=2, eps=0.1, search="warm", examples=len(x))

for epoch in range(2):
    loader.sampler.set_epoch(epoch)
    for index, images, labels in loader:
        logits = model(images)
        loss = F.cross_entropy(logits, labels) + 0.3 * reg(model, images, logits, index=index)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

print(f"process {distributed.get_rank()}: ||J|| is at least {reg.last.norm.mean():.1f}")
distributed.destroy_process_group()
