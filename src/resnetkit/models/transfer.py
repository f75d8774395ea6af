"""Published weights in a network for other images or other classes, and training it in less memory."""

from collections.abc import Mapping

from torch import Tensor, nn

from resnetkit.errors import InvalidArgument
from resnetkit.models.densenet import DenseLayer
from resnetkit.models.network import Network
from resnetkit.models.preact import PreActBlock
from resnetkit.models.resnet import BasicBlock, Bottleneck

BLOCKS = (BasicBlock, Bottleneck, PreActBlock, DenseLayer)


def fit_input_channels(weight: Tensor, in_chans: int) -> Tensor:
    """A stem's weights for colour, out,3,h,w, made to read `in_chans` channels.

    For grey images the three are added, so that a grey picture gives what it gave as colour. Otherwise they repeat,
    scaled so that the answers keep their size.

    >>> import torch
    >>> fit_input_channels(torch.ones(64, 3, 7, 7), 1)[0, 0, 0, 0].item()
    3.0
    >>> fit_input_channels(torch.ones(64, 3, 7, 7), 6).sum((1, 2, 3))[0].item()
    147.0
    """
    colours = weight.shape[1]
    if in_chans == colours:
        return weight
    if in_chans == 1:
        return weight.sum(1, keepdim=True)
    repeats = -(-in_chans // colours)
    return weight.repeat(1, repeats, 1, 1)[:, :in_chans] * (colours / in_chans)


def fit_weights(network: Network, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` of a network of the same row, fitted to this one's input channels and classes.

    The stem is folded or repeated; a classifier for another number of classes gives way to the network's own,
    untrained one. `network.load_state_dict` then takes the result.
    """
    own = network.state_dict()
    stem = next(key for key, tensor in own.items() if tensor.dim() == 4)
    fitted = {key: tensor for key, tensor in state.items() if key in own}
    fitted[stem] = fit_input_channels(state[stem], network.in_chans)
    classifier = {id(tensor) for tensor in network.get_classifier().parameters()}
    keys = [key for key, parameter in network.named_parameters() if id(parameter) in classifier]
    if any(key not in state or state[key].shape != own[key].shape for key in keys):
        fitted |= {key: own[key] for key in keys}
    return fitted


def checkpoint_blocks(network: nn.Module) -> None:
    """From now on each block keeps its input alone for the backward pass and computes the rest again.

    About a third more time for a fraction of the memory (https://arxiv.org/abs/1604.06174). Keys stay as they are.
    """
    # Imported late: it brings much that only training needs.
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    if not any(isinstance(module, BLOCKS) for module in network.modules()):
        raise InvalidArgument(
            "this network has no blocks to compute again: checkpoint_blocks is for residual and dense ones"
        )
    apply_activation_checkpointing(network, check_fn=lambda module: isinstance(module, BLOCKS))
