"""The names that published files give the tensors of a ConvNeXt, and what they are called here.

The same network is handed out under four sets of names: those of its authors' code, timm's,
torchvision's and transformers', which are ours. Knows names; no weights, no network.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

OURS = "convnext."
HEAD = "classifier."
STEM = f"{OURS}embeddings.patch_embeddings.weight"
STAGE = f"{OURS}encoder.stages.{{stage}}."
LAYER = f"{STAGE}layers.{{block}}."


@dataclass(frozen=True)
class Layout:
    """How one library names things. `stem` is the tensor that it is known by; `names` lead from
    its names to ours. Where two modules make a `stride` of one stage, places are counted so.
    """

    stem: str
    names: Mapping[str, str]
    stride: int = 1

    def ours(self, name: str) -> str:
        """The name here; what the library does not know keeps its own."""
        for pattern, meant in self.names.items():
            found = re.match(pattern, name)
            if found:
                places = {key: int(number) for key, number in found.groupdict().items()}
                if "stage" in places:
                    places["stage"] //= self.stride
                return meant.format(**places) + name[found.end() :]
        return name


AUTHORS = Layout(
    "downsample_layers.0.0.weight",
    {
        r"downsample_layers\.0\.0\.": f"{OURS}embeddings.patch_embeddings.",
        r"downsample_layers\.0\.1\.": f"{OURS}embeddings.layernorm.",
        r"downsample_layers\.(?P<stage>\d+)\.": f"{STAGE}downsampling_layer.",
        r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.norm\.": f"{LAYER}layernorm.",
        r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.gamma$": f"{LAYER}layer_scale_parameter",
        r"stages\.(?P<stage>\d+)\.(?P<block>\d+)\.": LAYER,
        r"norm\.": f"{OURS}layernorm.",
        r"head\.": HEAD,
    },
)
TIMM = Layout(
    "stem.0.weight",
    {
        r"stem\.0\.": f"{OURS}embeddings.patch_embeddings.",
        r"stem\.1\.": f"{OURS}embeddings.layernorm.",
        r"stages\.(?P<stage>\d+)\.downsample\.": f"{STAGE}downsampling_layer.",
        r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.conv_dw\.": f"{LAYER}dwconv.",
        r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.norm\.": f"{LAYER}layernorm.",
        r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.mlp\.fc1\.": f"{LAYER}pwconv1.",
        r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.mlp\.fc2\.": f"{LAYER}pwconv2.",
        r"stages\.(?P<stage>\d+)\.blocks\.(?P<block>\d+)\.gamma$": f"{LAYER}layer_scale_parameter",
        r"head\.norm\.": f"{OURS}layernorm.",
        r"head\.fc\.": HEAD,
    },
)
TORCHVISION = Layout(
    "features.0.0.weight",
    {
        r"features\.0\.0\.": f"{OURS}embeddings.patch_embeddings.",
        r"features\.0\.1\.": f"{OURS}embeddings.layernorm.",
        r"features\.(?P<stage>\d+)\.(?P<block>\d+)\.block\.0\.": f"{LAYER}dwconv.",
        r"features\.(?P<stage>\d+)\.(?P<block>\d+)\.block\.2\.": f"{LAYER}layernorm.",
        r"features\.(?P<stage>\d+)\.(?P<block>\d+)\.block\.3\.": f"{LAYER}pwconv1.",
        r"features\.(?P<stage>\d+)\.(?P<block>\d+)\.block\.5\.": f"{LAYER}pwconv2.",
        r"features\.(?P<stage>\d+)\.(?P<block>\d+)\.layer_scale$": f"{LAYER}layer_scale_parameter",
        r"features\.(?P<stage>\d+)\.": f"{STAGE}downsampling_layer.",
        r"classifier\.0\.": f"{OURS}layernorm.",
        r"classifier\.2\.": HEAD,
    },
    stride=2,
)
EXPORTED = Layout("convnext.convnext.embeddings.patch_embeddings.weight", {r"convnext\.": ""})
"""A classifier of this suite."""

LAYOUTS = (AUTHORS, TIMM, TORCHVISION, EXPORTED)


def renamed(names: Iterable[str]) -> dict[str, str]:
    """What each tensor of a file is called here, by its name there; those of `transformers` and
    of anything else stay as they are.
    """
    there = list(names)
    layout = next((each for each in LAYOUTS if each.stem in there), None)
    return {name: name if layout is None else layout.ours(name) for name in there}
