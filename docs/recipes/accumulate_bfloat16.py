"""AdamW, autocast in bfloat16, gradients accumulated over two batches, batch normalisation."""

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import onr_torch

torch.manual_seed(0)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:, None] / 16
y = torch.from_numpy(digits.target)

model = nn.Sequential(
    nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10)
)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
reg = onr_torch.OperatorNormRegularizer(p=2, q=2, eps=0.5, power=2, steps=5, bfloat16=True)

for step, batch in enumerate(torch.randperm(1500).split(100)):
    with torch.autocast("cpu", torch.bfloat16):
        # One forward pass of clean and perturbed images, which batch normalisation sees together.
        logits, term = reg.together(model, x[batch])
        loss = F.cross_entropy(logits, y[batch]) + 0.1 * term
    (loss / 2).backward()
    if step % 2:
        optimizer.step()
        optimizer.zero_grad()

model.eval()
print(f"clean: {(model(x[1500:]).argmax(1) == y[1500:]).float().mean():.1%}")
