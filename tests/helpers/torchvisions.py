"""torchvision's classification networks: one of each family by default, all others with `-m slow`."""

import pytest
from torchvision import models

FAMILIES = (
    "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet",
    "inception_v3", "maxvit_t", "mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf",
    "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_0",
    "squeezenet1_1", "swin_t", "swin_v2_t", "vgg11", "vgg11_bn", "vit_b_32", "wide_resnet50_2",
)  # fmt: skip

every_network = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in FAMILIES else [pytest.mark.slow])
        for name in models.list_models(module=models)
    ],
)
