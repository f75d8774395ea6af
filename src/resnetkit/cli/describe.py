"""`resnetkit describe`."""

from resnetkit.cli.console import print_json, results
from resnetkit.cli.flags import Common, Switch
from resnetkit.errors import InvalidArgument

_NONE = Common()


def describe_command(
    model: str,
    /,
    *,
    input_size: str | None = None,
    num_classes: int | None = None,
    output_stride: int = 32,
    layers: Switch = False,
    common: Common = _NONE,
) -> int:
    """Show a network stage by stage without running it. Multiply-adds are those of convolutions and linear layers.

    Parameters
    ----------
    model
        An architecture's name, a run folder, a model file or a foreign checkpoint.
    input_size
        Channels, height and width of an image, as 3,224,224 (default: what the model was made for).
    num_classes
        Classes of the head (default: the model's own, or 1000).
    output_stride
        8 or 16 keeps the last feature maps larger, by dilation.
    layers
        Also list every layer.
    """
    from resnetkit.api.describing import describe

    description = describe(model, _read_size(input_size), num_classes=num_classes, output_stride=output_stride)
    if common.json:
        values = description.to_dict()
        print_json(values if layers else {key: value for key, value in values.items() if key != "layers"})
        return 0
    results.print(str(description), markup=False)
    if layers:
        results.print("\n" + description.layer_table(), markup=False)
    return 0


def _read_size(text: str | None) -> tuple[int, int, int] | None:
    """The three numbers of C,H,W."""
    if text is None:
        return None
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise InvalidArgument(f"--input-size {text}: write channels, height and width as 3,224,224")
    channels, height, width = (int(part) for part in parts)
    return channels, height, width
