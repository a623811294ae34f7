"""The term in the Trainer of transformers: override ``compute_loss``."""

import torch
from sklearn.datasets import load_digits
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

import onr_torch


class RegularizedTrainer(Trainer):
    def __init__(self, *arguments, reg, lam, **options):
        super().__init__(*arguments, **options)
        self.reg, self.lam = reg, lam

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        index = inputs.pop("index", None)
        outputs = model(**inputs)
        loss = outputs.loss
        if model.training:
            loss = loss + self.lam * self.reg(model, inputs["pixel_values"], outputs, index=index)
        return (loss, outputs) if return_outputs else loss


digits = load_digits()
images = torch.from_numpy(digits.images).float()[:, None] / 16
data = [
    {"pixel_values": image, "labels": int(label), "index": index}
    for index, (image, label) in enumerate(zip(images, digits.target, strict=True))
]
config = ViTConfig(
    image_size=8,
    patch_size=4,
    num_channels=1,
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    num_labels=10,
)
arguments = TrainingArguments(
    output_dir="trainer",
    use_cpu=True,
    max_steps=20,
    per_device_train_batch_size=50,
    learning_rate=3e-3,
    remove_unused_columns=False,  # keeps the index
    report_to=[],
    save_strategy="no",
    disable_tqdm=True,
)
reg = onr_torch.OperatorNormRegularizer(p="inf", q=2, eps=0.1, search="warm", examples=1500)
trainer = RegularizedTrainer(
    model=ViTForImageClassification(config),
    args=arguments,
    train_dataset=data[:1500],
    eval_dataset=data[1500:],
    reg=reg,
    lam=0.1,
)
trainer.train()
print(trainer.evaluate()["eval_loss"], reg.last.norm.mean())
