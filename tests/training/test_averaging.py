import copy

import numpy as np
import torch
from safetensors.torch import load_file

from resnetkit.api.training import train
from resnetkit.catalog.architectures import architecture
from resnetkit.checkpoints.modelfile import read
from resnetkit.data.opening import open_data
from resnetkit.deployment.opening import open_model
from resnetkit.models import build
from resnetkit.training.averaging import Average


def changed(network: torch.nn.Module, amount: float) -> None:
    """As a step would: other weights, other statistics, one more batch seen."""
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.add_(amount)
        else:
            tensor.add_(1)


def test_floats_are_averaged_with_one_decay_and_whole_numbers_copied():
    network = build(architecture("resnet20"), num_classes=3).to(memory_format=torch.channels_last)
    average = Average(network, 0.4)
    wanted = {key: tensor.double() for key, tensor in network.state_dict().items()}
    for step in range(8):
        changed(network, 0.1 * (step + 1))
        average.update(step)
        decay = min(0.4, (2 + step) / (11 + step))
        for key, tensor in network.state_dict().items():
            new = tensor.double()
            wanted[key] = decay * wanted[key] + (1 - decay) * new if tensor.is_floating_point() else new
    assert decay == 0.4, "the last steps are past the short decay of the start"
    for key, tensor in average.state().items():
        torch.testing.assert_close(tensor.double(), wanted[key], rtol=1e-5, atol=1e-5, msg=key)
    assert int(average.network.bn1.num_batches_tracked) == 8


def test_the_average_leaves_the_network_alone_and_learns_nothing():
    network = build(architecture("resnet20"), num_classes=3)
    before = copy.deepcopy(network.state_dict())
    average = Average(network, 0.9)
    average.update(0)
    assert all(torch.equal(before[key], tensor) for key, tensor in network.state_dict().items())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())


def test_every_third_step_counts():
    network = build(architecture("resnet20"), num_classes=3)
    average = Average(network, 0.5, every=3)
    before = average.network.fc.bias.clone()
    changed(network, 1.0)
    for step in (0, 1):
        average.update(step)
        assert torch.equal(average.network.fc.bias, before)
    average.update(2)
    assert not torch.equal(average.network.fc.bias, before)


def test_the_model_of_a_run_is_the_average_and_its_checkpoint_holds_both(tmp_path):
    result = train("digits", output=tmp_path / "run", epochs=1, ema_decay=0.9, deterministic=True, batch_size=256)
    model, card = read(result.model)
    *_, snapshot = sorted((result.run / "checkpoint").glob("step-*.safetensors"))
    kept = load_file(snapshot)
    for key, tensor in model.items():
        assert torch.equal(tensor, kept[f"average/{key}"]), key
    assert not torch.equal(model["fc.weight"], kept["network/fc.weight"])
    # The score in its card is the average's own.
    classifier = open_model(result.run).classifier()
    data = open_data("digits").split("val")
    probs = classifier(np.stack([data.image(i) for i in range(len(data))]))
    assert float((probs.argmax(1) == data.labels).mean()) == card.scores["val"]["top1"]
