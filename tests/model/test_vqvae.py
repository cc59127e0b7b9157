"""The lookup is eq. 1 and 2, the loss eq. 3, and the codebook stays in use."""

import re

import pytest
import torch
from torch import Tensor, nn

from vqad.model.vqvae import VQVAE, Reconstruction, Upsample, VQVAEConfig

SIZES = {
    "image_size_px": 16,
    "latent_size": 4,
    "num_codes": 16,
    "code_dim": 4,
    "width": 8,
    "residual_width": 4,
    "num_residual_blocks": 1,
}
CONFIG = VQVAEConfig(**SIZES)
GRADIENT = VQVAEConfig(**SIZES, codebook="gradient")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(config: VQVAEConfig, seed: int = 0) -> VQVAE:
    torch.manual_seed(seed)
    return VQVAE(config)


def images_of(config: VQVAEConfig, batch: int = 2, seed: int = 0) -> Tensor:
    size = (batch, 3, config.image_size_px, config.image_size_px)
    return torch.rand(size, generator=generator(seed))


def test_the_code_of_a_cell_is_the_argmin_of_plain_distances() -> None:
    codebook = model_of(CONFIG).codebook
    latents = torch.randn(3, 4, 5, 6, generator=generator())
    distances = (latents.movedim(1, -1)[..., None, :] - codebook.vectors).norm(dim=-1)
    assert torch.equal(codebook.nearest(latents), distances.argmin(-1))


def test_codes_look_up_their_own_vectors_cell_by_cell() -> None:
    codebook = model_of(CONFIG).codebook
    codes = torch.randint(16, (2, 3, 5), generator=generator())
    found = codebook.lookup(codes)
    assert found.shape == (2, 4, 3, 5)
    assert torch.equal(found[1, :, 2, 4], codebook.vectors[codes[1, 2, 4]])
    assert torch.equal(codebook.nearest(found), codes)


@pytest.mark.parametrize("config", [CONFIG, GRADIENT], ids=lambda config: config.codebook)
def test_gradients_pass_straight_through_the_lookup_to_the_encoder(config: VQVAEConfig) -> None:
    model = model_of(config)
    out = model(images_of(config))
    assert out.codes is not None
    out.latents.retain_grad()
    (out.decoded * torch.randn(out.decoded.shape, generator=generator())).sum().backward()
    # What reaches the latents is what the decoder sends back from where it was given the vectors.
    given = out.quantised.detach().requires_grad_()
    (model.decoder(given) * torch.randn(out.decoded.shape, generator=generator())).sum().backward()
    assert given.grad is not None
    torch.testing.assert_close(out.latents.grad, given.grad)
    first = model.encoder[0].weight.grad
    assert first is not None
    assert first.abs().sum() > 0
    # And no part of it moves the vectors.
    assert model.codebook.vectors.grad is None


def test_the_decoder_is_given_the_vectors_and_not_the_latents() -> None:
    model = model_of(CONFIG)
    out = model(images_of(CONFIG))
    torch.testing.assert_close(out.decoded, model.decoder(out.quantised))
    assert not torch.allclose(out.decoded, model.decoder(out.latents), atol=1e-3)


@pytest.mark.parametrize("beta", [0.25, 2.0])
@pytest.mark.parametrize("codebook", ["moving_average", "gradient"])
def test_the_loss_is_equation_3_with_every_norm_squared_and_averaged(
    codebook: str, beta: float
) -> None:
    config = VQVAEConfig(**SIZES, codebook=codebook, commitment=beta)
    model, images = model_of(config), images_of(config)
    out = model(images)
    reconstruction = ((2 * images - 1) - out.decoded).square().mean()
    distance = (out.latents - out.quantised).square().mean()
    # The codebook's own term is the same number, but only the option ``gradient`` has it.
    expected = reconstruction + (beta + (codebook == "gradient")) * distance
    assert distance > 0.01
    torch.testing.assert_close(model.loss(images, out), expected)


def test_commitment_pulls_latents_and_the_codebook_term_pulls_vectors() -> None:
    model, images = model_of(GRADIENT), images_of(GRADIENT)
    out = model(images)
    out.latents.retain_grad()
    # A decoding that is perfect and constant leaves only the two terms.
    out = Reconstruction(images * 2 - 1, out.latents, out.codes, out.quantised)
    model.loss(images, out).backward()
    apart = (out.latents - out.quantised).detach() * 2 / out.latents.numel()
    torch.testing.assert_close(out.latents.grad, GRADIENT.commitment * apart)
    pulled = torch.zeros_like(model.codebook.vectors)
    pulled.index_add_(0, out.codes.flatten(), -apart.movedim(1, -1).flatten(0, 2))
    torch.testing.assert_close(model.codebook.vectors.grad, pulled)


def test_moving_averages_leave_the_optimizer_no_vectors_to_move() -> None:
    assert "codebook.vectors" in dict(model_of(GRADIENT).named_parameters())
    assert "codebook.vectors" not in dict(model_of(CONFIG).named_parameters())
    assert "codebook.vectors" in model_of(CONFIG).state_dict()


def test_without_the_lookup_it_is_a_plain_autoencoder() -> None:
    model, images = model_of(CONFIG), images_of(CONFIG)
    out = model(images, lookup=False)
    assert out.codes is None
    torch.testing.assert_close(out.decoded, model.decoder(model.encoder(images * 2 - 1)))
    expected = (out.decoded - (images * 2 - 1)).square().mean()
    torch.testing.assert_close(model.loss(images, out), expected)


@pytest.mark.parametrize(
    ("image_size_px", "latent_size", "num_halvings", "cell_area_px"),
    [(256, 32, 3, 64), (16, 4, 2, 16), (64, 16, 2, 16), (6, 3, 1, 4)],
)
def test_halvings_and_cells_follow_from_the_sizes(
    image_size_px: int, latent_size: int, num_halvings: int, cell_area_px: int
) -> None:
    sizes = {**SIZES, "image_size_px": image_size_px, "latent_size": latent_size}
    config = VQVAEConfig(**sizes)
    assert (config.num_halvings, config.cell_area_px) == (num_halvings, cell_area_px)
    model, images = model_of(config), images_of(config)
    assert model.encode(images).shape == (2, latent_size, latent_size)
    assert model(images).decoded.shape == images.shape


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_codes": 0}, "num_codes must be in [1, 65536], got 0"),
        ({"width": 10**9}, "width must be in [1, 1024], got 1000000000"),
        ({"num_residual_blocks": 10**9}, "num_residual_blocks must be in [1, 64], got 1000000000"),
        ({"image_size_px": 48}, "latent_size times 2, 4, 8, ..., got 48 and 4"),
        ({"image_size_px": 4}, "latent_size times 2, 4, 8, ..., got 4 and 4"),
        ({"image_size_px": 2}, "latent_size times 2, 4, 8, ..., got 2 and 4"),
        ({"commitment": -1.0}, "commitment must be finite and not negative, got -1.0"),
        ({"decay": 1.0}, "decay must be in [0, 1), got 1.0"),
        ({"restart_below": 1.5}, "restart_below must be in [0, 1), got 1.5"),
    ],
)
def test_impossible_sizes_are_refused_by_name_and_value(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        VQVAEConfig(**{**SIZES, **change})


@pytest.mark.parametrize(("image_size_px", "latent_size"), [(16, 4), (64, 16), (64, 8), (64, 4)])
def test_the_stem_of_pixel_blocks_gives_maps_and_images_of_the_same_sizes(
    image_size_px: int, latent_size: int
) -> None:
    sizes = {**SIZES, "image_size_px": image_size_px, "latent_size": latent_size}
    config = VQVAEConfig(**sizes, stem="pixel_blocks")
    model, images = model_of(config), images_of(config)
    assert model.encode(images).shape == (2, latent_size, latent_size)
    assert model(images).decoded.shape == images.shape


def test_a_pixel_reaches_the_code_of_its_own_block_and_no_far_one() -> None:
    config = VQVAEConfig(**{**SIZES, "image_size_px": 64, "latent_size": 16}, stem="pixel_blocks")
    model, images = model_of(config), images_of(config, 1)
    other = images.clone()
    other[0, :, 33, 21] += 0.5
    with torch.no_grad():
        moved = (model.encoder(other) - model.encoder(images)).abs().sum(1)[0] > 0
    assert moved[8, 5]
    assert not moved[:3].any()
    assert not moved[:, 13:].any()


def test_blocks_of_pixels_need_cells_as_large_as_they_are() -> None:
    with pytest.raises(ValueError, match="cells of at least 4 pixels a side, got 2"):
        VQVAEConfig(**{**SIZES, "image_size_px": 8}, stem="pixel_blocks")


def test_the_paper_is_the_default() -> None:
    config = VQVAEConfig()
    sizes = (config.image_size_px, config.latent_size, config.num_codes, config.code_dim)
    assert sizes == (256, 32, 512, 32)
    assert config.stem == "convolutions"
    assert (config.commitment, config.residual_width, config.num_residual_blocks) == (0.25, 32, 8)


def test_decoded_images_are_in_0_to_1_even_where_the_decoder_overshoots() -> None:
    model = model_of(CONFIG)
    with torch.no_grad():
        model.decoder[-1].weight.mul_(1000)
    decoded = model.decode(model.encode(images_of(CONFIG)))
    assert decoded.shape == (2, 3, 16, 16)
    assert decoded.amin() == 0
    assert decoded.amax() == 1


def test_images_in_0_to_1_are_mapped_to_minus_1_to_1_inside_and_back() -> None:
    model = model_of(CONFIG)
    seen: list[Tensor] = []
    model.encoder[0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    images = images_of(CONFIG)
    images[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    codes = model.encode(images)
    model(images)
    for given in seen:
        torch.testing.assert_close(given, images * 2 - 1)
        assert (given.amin(), given.amax()) == (-1, 1)
    decoded = model.decoder(model.codebook.lookup(codes))
    torch.testing.assert_close(model.decode(codes), ((decoded + 1) / 2).clamp(0, 1))


def test_lookup_and_loss_are_float32_under_autocast() -> None:
    model, images = model_of(CONFIG), images_of(CONFIG)
    latents = torch.randn(4, 4, 8, 8, generator=generator()) * 100
    # Vectors that bfloat16 would take for one another.
    model.codebook.vectors.copy_(100 + torch.arange(64).view(16, 4) * 0.01)
    expected = model.codebook.nearest(latents)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.encoder(images).dtype == torch.bfloat16
        assert torch.equal(model.codebook.nearest(latents), expected)
        out = model(images)
        loss = model.loss(images, out)
    assert out.decoded.dtype == torch.bfloat16
    assert {out.latents.dtype, out.quantised.dtype, loss.dtype} == {torch.float32}
    reconstruction = (out.decoded.float() - (images * 2 - 1)).square().mean()
    distance = (out.latents - out.quantised).square().mean()
    torch.testing.assert_close(loss, reconstruction + 0.25 * distance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_upsampling_has_the_gradients_of_a_transposed_convolution(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    layer = Upsample(8, 5)
    x = torch.randn(3, 8, 6, 7, requires_grad=True)
    grad = torch.randn(3, 5, 12, 14)
    found = []
    for forward in (nn.ConvTranspose2d.forward, Upsample.forward):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            out = forward(layer, x)
        assert out.dtype == dtype
        out.backward(grad.to(dtype))
        found.append([out.detach(), *(each.grad for each in (x, layer.weight, layer.bias))])
        x.grad = None
        layer.zero_grad()
    for theirs, ours in zip(*found, strict=True):
        close = (
            {"rtol": 2e-2, "atol": 5e-2}
            if dtype == torch.bfloat16
            else {"rtol": 1e-5, "atol": 1e-5}
        )
        torch.testing.assert_close(ours, theirs, **close)
