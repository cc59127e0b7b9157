"""Three sizes of the method: the paper's for GPUs, one for laptops, one for tests and the demo."""

from dataclasses import dataclass, field, replace

from vqad.detection.surprisal import Form
from vqad.model.pixelsnail import PixelSNAILConfig
from vqad.model.vqvae import VQVAEConfig
from vqad.training.local_statistics import MOST_IMAGES
from vqad.training.loop import FitOptions
from vqad.training.segmenter import SegmenterOptions


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The two networks, the budget of each fit, and the default form of the anomaly map."""

    vqvae: VQVAEConfig
    prior: PixelSNAILConfig
    fit_vqvae: FitOptions
    fit_prior: FitOptions
    form: Form = "full"  # the default
    segmenter: SegmenterOptions = field(default_factory=SegmenterOptions)  # of the form full
    num_copies: int = 0  # harmless copies in the fit of the form full, at most one of an image


# Light and shift are guesses: how much lamps and cameras change from day to day. On bottle, batches
# of 4 came further than half as many batches of 8, in the same time: the VQ-VAE to a held-out error
# of .0033 against .0048 (1,600 steps), the prior to .66 nats below the histogram against .47 (240).
_ON_LAPTOP = FitOptions(
    num_steps=1, batch_size=4, learning_rate=1e-3, light=0.05, shift=4 / 256, interval_steps=25
)

# Twice the light of `laptop`, so that networks of few steps know a lamp that is a tenth dimmer.
_ON_TINY = FitOptions(num_steps=1, batch_size=32, learning_rate=2e-3, light=0.1, shift=4 / 256)

PRESETS: dict[str, Preset] = {
    # The paper's network, batches and learning rate (4.3.2). It counts epochs of an augmented
    # training set whose size it does not state, so the number of steps is a guess: about
    # 256,000 and 192,000 samples.
    "paper": Preset(
        vqvae=VQVAEConfig(),
        prior=PixelSNAILConfig(),
        fit_vqvae=FitOptions(num_steps=1000, batch_size=256, num_warmup_steps=60),
        fit_prior=FitOptions(
            num_steps=3000, batch_size=64, variations_per_image=32, patience=20, interval_steps=50
        ),
        form="plain",
    ),
    # Networks that spend their arithmetic on cells and not on pixels: the stem reads blocks of
    # pixels, the prior starts at the histogram of codes at each place.
    "laptop": Preset(
        vqvae=VQVAEConfig(stem="pixel_blocks", num_residual_blocks=4),
        prior=PixelSNAILConfig(width=96, place_bias=True),
        fit_vqvae=replace(_ON_LAPTOP, num_steps=1500, num_warmup_steps=120, interval_steps=50),
        fit_prior=replace(_ON_LAPTOP, num_steps=300, variations_per_image=4),
    ),
    # Small images and maps, for the demo and the tests.
    "tiny": Preset(
        vqvae=VQVAEConfig(
            image_size_px=64,
            latent_size=16,
            num_codes=128,
            code_dim=16,
            width=32,
            residual_width=16,
            num_residual_blocks=2,
        ),
        prior=PixelSNAILConfig(num_codes=128, latent_size=16, width=48, num_stages=2, num_heads=2),
        fit_vqvae=replace(_ON_TINY, num_steps=200, num_warmup_steps=30),
        fit_prior=replace(_ON_TINY, num_steps=150, interval_steps=25),
        # With 100 pictures and 150 steps, a fit took 19 s of a core longer and judged as many drawn
        # ampoules right.
        segmenter=SegmenterOptions(
            num_painted=60, fit=FitOptions(num_steps=75, batch_size=16, learning_rate=2e-3)
        ),
        # Of all images: with 90 of 120, four more of fifteen drawn products were too sensitive.
        num_copies=MOST_IMAGES,
    ),
}


def preset_of(name: str) -> Preset:
    """The preset of this name. Raises ValueError."""
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name}")
    return PRESETS[name]
