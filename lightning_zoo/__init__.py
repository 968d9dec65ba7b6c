"""A zoo of representation-learning methods on PyTorch Lightning, each beside its paper's numbers.

Importing this package is cheap: torch and Lightning are imported when the first method is asked for.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

METHODS = {
    "STDIM": "lightning_zoo.representation.stdim",
    "GlobalDIM": "lightning_zoo.representation.global_dim",
    "StaticDIM": "lightning_zoo.representation.static_dim",
    "JSDSTDIM": "lightning_zoo.representation.jsd_stdim",
    "ThreeFrameDIM": "lightning_zoo.representation.three_frame_dim",
    "CategoryEnsemble": "lightning_zoo.representation.category_ensemble",
    "CPC": "lightning_zoo.representation.cpc",
    "FrameVAE": "lightning_zoo.representation.frame_vae",
    "PixelPrediction": "lightning_zoo.representation.pixel_prediction",
    "Supervised": "lightning_zoo.representation.supervised",
    "RandomCNN": "lightning_zoo.representation.random_cnn",
    "Majority": "lightning_zoo.representation.majority",
    "LinearProbe": "lightning_zoo.representation.linear_probe",
    "VAE": "lightning_zoo.generative.vae",
    "CVAE": "lightning_zoo.generative.cvae",
    "CRVAE": "lightning_zoo.generative.crvae",
    "HierarchicalCRVAE": "lightning_zoo.generative.hierarchical_crvae",
    "VAEGAN": "lightning_zoo.generative.vae_gan",
    "CRVAEGAN": "lightning_zoo.generative.crvae_gan",
    "ConditionalVAE": "lightning_zoo.generative.conditional_vae",
    "ConditionalGAN": "lightning_zoo.generative.conditional_gan",
    "ConditionalVAEGAN": "lightning_zoo.generative.conditional_vae_gan",
    "ConditionalCRVAEGAN": "lightning_zoo.generative.conditional_crvae_gan",
    "ACVAEGAN": "lightning_zoo.generative.acvae_gan",
    "Stage2": "lightning_zoo.generative.stage2",
    "Classifier": "lightning_zoo.generative.classifier",
    "AttributeClassifier": "lightning_zoo.generative.attribute_classifier",
    "BlockSTN": "lightning_zoo.video.block_stn",
    "StaticsDynamics": "lightning_zoo.video.statics_dynamics",
    "VideoClassifier": "lightning_zoo.video.video_classifier",
    "VideoAutoencoder": "lightning_zoo.video.video_autoencoder",
}
"""Every method: the class's name and the module that defines it."""

_FUNCTIONS = {"load": "lightning_zoo.checkpoints"}

__all__ = ["METHODS", "__version__", *METHODS, *_FUNCTIONS]


def __getattr__(name: str) -> Any:
    module = METHODS.get(name) or _FUNCTIONS.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
