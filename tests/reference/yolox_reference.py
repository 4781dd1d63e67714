"""Run by an interpreter with torch and the reference package, pixeltable-yolox.

yolox_reference.py NAME FOLDER: a network of that name with random weights and statistics, as published files are; what
it says of an image, numbers 0 to 255 in BGR order, before boxes are decoded: box, objectness and classes of each cell.
"""

import sys
from pathlib import Path

import torch
from yolox.config import YoloxConfig

name, folder = sys.argv[1], Path(sys.argv[2])
torch.manual_seed(0)
model = YoloxConfig.get_named_config(name).get_model().eval()
for norm in (m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)):
    for values, low, high in ((norm.weight, 0.5, 1.5), (norm.bias, -0.5, 0.5)):
        torch.nn.init.uniform_(values, low, high)
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.5, 1.5)
for predict in (*model.head.cls_preds, *model.head.reg_preds, *model.head.obj_preds):
    torch.nn.init.normal_(predict.weight, std=0.3)
    torch.nn.init.zeros_(predict.bias)
torch.save({"start_epoch": 1, "model": model.state_dict()}, folder / "weights.pth")
image = torch.randint(0, 256, (1, 3, 96, 64))
model.head.decode_in_inference = False
with torch.no_grad():
    said = model.double()(image.double())
torch.save({"image": image.to(torch.uint8), "said": said}, folder / "said.pt")
