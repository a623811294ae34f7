"""The term in a LightningModule, with its memory in the checkpoints."""

import lightning
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import onr_torch


class Classifier(lightning.LightningModule):
    def __init__(self, examples):
        super().__init__()
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        self.reg = onr_torch.OperatorNormRegularizer(
            p="inf", q=2, eps=0.1, search="warm", examples=examples
        )

    def training_step(self, batch, batch_number):
        index, x, y = batch
        logits = self.model(x)
        term = self.reg(self.model, x, logits, index=index)
        self.log("norm", self.reg.last.norm.mean())
        return F.cross_entropy(logits, y) + 0.3 * term

    def on_save_checkpoint(self, checkpoint):
        checkpoint["reg"] = self.reg.state_dict()

    def on_load_checkpoint(self, checkpoint):
        self.reg.load_state_dict(checkpoint["reg"])

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


lightning.seed_everything(0, verbose=False)
digits = load_digits()
x = torch.from_numpy(digits.images).float()[:1500, None] / 16
y = torch.from_numpy(digits.target)[:1500]
loader = DataLoader(TensorDataset(torch.arange(len(x)), x, y), batch_size=100, shuffle=True)

quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", enable_checkpointing=False, **quiet)
classifier = Classifier(len(x))
trainer.fit(classifier, loader)
trainer.save_checkpoint("last.ckpt")

again = Classifier.load_from_checkpoint("last.ckpt", examples=len(x), weights_only=True)
print(f"||J|| is at least {trainer.callback_metrics['norm']:.1f}")
print(torch.equal(again.reg.state_dict()["memory"], classifier.reg.state_dict()["memory"]))
