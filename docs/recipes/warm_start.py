"""One pass instead of ten: each example continues from its last visit, found by its index."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onr_torch

torch.manual_seed(0)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:1500, None] / 16
y = torch.from_numpy(digits.target)[:1500]
loader = DataLoader(TensorDataset(torch.arange(len(x)), x, y), batch_size=100, shuffle=True)

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
reg = onr_torch.OperatorNormRegularizer(
    p="inf", q=2, eps=0.1, power=2, search="warm", examples=len(x)
)

for _ in range(2):
    for index, images, labels in loader:
        logits, moved, term = reg.pair(model, images, index=index, labels=labels)
        entropy = F.cross_entropy(logits, labels) + F.cross_entropy(moved, labels)
        loss = entropy / 2 + 0.2 * term
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    checkpoint = {"model": model.state_dict(), "reg": reg.state_dict()}  # for torch.save

reg.load_state_dict(checkpoint["reg"])
print(
    f"||J|| is at least {reg.last.norm.mean():.1f}; remembered: {checkpoint['reg']['memory'].shape}"
)
