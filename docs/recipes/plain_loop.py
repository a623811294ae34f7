"""A plain loop: cross-entropy plus the operator norm of the Jacobian at each image."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import onr
import onr_torch

torch.manual_seed(0)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:, None] / 16  # (1797, 1, 8, 8), pixels in [0, 1]
y = torch.from_numpy(digits.target)

model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
reg = onr_torch.OperatorNormRegularizer(p="inf", q=2, eps=0.1, search="power", steps=5)

for epoch in range(2):
    for batch in torch.randperm(1500).split(100):
        logits = model(x[batch])
        loss = F.cross_entropy(logits, y[batch]) + 0.3 * reg(model, x[batch], logits)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: ||J|| {reg.last.norm.mean():.1f}, rho {reg.last.rho.mean():.2f}")

test_x, test_y = x[1500:], y[1500:]
moved = onr.attack(model.eval(), test_x, test_y, p="inf", eps=0.1)
for name, inputs in (("clean", test_x), ("under attack", moved)):
    print(f"{name}: {(model(inputs).argmax(1) == test_y).float().mean():.1%}")
