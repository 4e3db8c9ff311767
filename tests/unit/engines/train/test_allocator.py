"""Memory by arithmetic: against the real modules, and against what autograd really keeps."""

import pytest

from engines.train import allocator
from engines.train.allocator import GpuOffer, estimate, suggest
from engines.train.contract import TrainConfig
from engines.train.errors import DoesNotFit
from engines.train.sizes import attention_matrix_bytes, model_size

CATALOGUE = [
    GpuOffer("T4", 16, 1, 0.6),
    GpuOffer("L4", 24, 1, 0.8),
    GpuOffer("A100-80GB", 80, 1, 2.5),
    GpuOffer("A100-80GB:2", 80, 2, 5.0),
    GpuOffer("H200", 141, 1, 4.5),
]
CONFIGS = [
    TrainConfig(recipe="image_classifier", width=16, depth=1, image_size=16),
    TrainConfig(recipe="image_classifier", width=24, depth=3, image_size=16),
    TrainConfig(recipe="image_classifier", width=48, depth=2, image_size=32),
    TrainConfig(recipe="diffusion_transformer", width=96, depth=4, image_size=16, patch_size=2),
    TrainConfig(recipe="diffusion_transformer", width=64, depth=2, image_size=16, patch_size=4),
    TrainConfig(recipe="diffusion_transformer", width=128, depth=6, image_size=32, patch_size=4),
    TrainConfig(recipe="diffusion_transformer", width=64, depth=2, heads=8, image_size=32, patch_size=2),
    TrainConfig(recipe="diffusion_transformer", width=48, depth=2, heads=4, image_size=48, patch_size=2),
]


def _kept_bytes(config: TrainConfig, *, flash: bool, is_16_bit: bool, count: int = 4) -> tuple[int, int]:
    """What autograd keeps of one example for the backward pass, and the parameters of the real model."""
    torch = pytest.importorskip("torch", reason="the real model needs the extra `torch`")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    from engines.train.recipes.catalogue import recipe_for

    recipe = recipe_for(config, tuple("abcdefghijkl"), None)
    model = recipe.build()
    side = config.image_size
    batch = {"images": torch.randn(count, 3, side, side), "labels": torch.zeros(count, dtype=torch.long)}
    batch |= {name: drawn[:count] for name, drawn in recipe.draws(0).items()}
    own = {weights.untyped_storage().data_ptr() for weights in model.parameters()}
    kept: dict[int, int] = {}
    alive = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
            alive.append(tensor)
        return tensor

    with (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION if flash else SDPBackend.MATH),
        torch.autocast("cpu", torch.bfloat16, enabled=is_16_bit),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        recipe.loss(model, batch)
    return sum(kept.values()) // count, sum(weights.numel() for weights in model.parameters())


@pytest.mark.parametrize("config", CONFIGS)
def test_parameters_and_activations_are_those_of_the_real_model(config: TrainConfig) -> None:
    # Given the real model in fp32, in which a GPU has no flash attention, and what autograd keeps
    kept_bytes, parameters = _kept_bytes(config, flash=False, is_16_bit=False)
    # Then the parameters are exactly as counted, and the activations within a tenth
    size = model_size(config, classes=12, is_16_bit=False)
    assert size.parameters == parameters
    at_work = 2 * attention_matrix_bytes(config) if config.recipe == "diffusion_transformer" else 0
    assert kept_bytes == pytest.approx(size.activation_bytes - at_work, rel=0.10)


@pytest.mark.parametrize("config", CONFIGS[-2:])
def test_attention_without_flash_keeps_a_matrix_for_each_head(config: TrainConfig) -> None:
    # Given what the real model keeps in 16 bits, with flash attention and without
    flash, plain = (_kept_bytes(config, flash=flash, is_16_bit=True)[0] for flash in (True, False))
    # When both are estimated: for a GPU that has it, and for a T4 or heads that are too wide
    sizes = [model_size(config, classes=12, is_16_bit=True, has_flash=has_flash) for has_flash in (True, False)]
    # Then the difference is the one between the estimates, with what one block holds at work
    estimated = sizes[1].activation_bytes - sizes[0].activation_bytes - 2 * attention_matrix_bytes(config)
    assert plain - flash == pytest.approx(estimated, rel=0.05)
    wide = TrainConfig(recipe="diffusion_transformer", width=512, heads=1)
    assert model_size(wide, classes=12, is_16_bit=True) == model_size(wide, classes=12, is_16_bit=True, has_flash=False)


def test_the_cheapest_class_that_holds_the_run_is_suggested() -> None:
    small = TrainConfig(recipe="diffusion_transformer")
    large = TrainConfig(recipe="diffusion_transformer", width=2048, depth=24, heads=16)
    assert suggest(small, CATALOGUE).name == "T4"
    assert suggest(large, CATALOGUE).name == "A100-80GB"


def test_a_run_whose_activations_are_too_large_is_spread_over_two_or_put_on_a_larger_card() -> None:
    # Given a batch whose activations fill more than 80 GiB
    config = TrainConfig(
        recipe="diffusion_transformer", width=1024, depth=12, heads=16, image_size=64, patch_size=4, batch_size=700
    )
    assert 80 < estimate(config).needed_gib < 141
    # When classes are compared, then the larger card is cheaper than two; without it, two do it
    assert suggest(config, CATALOGUE).name == "H200"
    assert suggest(config, CATALOGUE[:-1]).name == "A100-80GB:2"


def test_a_model_that_no_class_holds_is_refused_with_figures() -> None:
    huge = TrainConfig(recipe="diffusion_transformer", width=8192, depth=128, heads=64)
    with pytest.raises(DoesNotFit) as caught:
        suggest(huge, CATALOGUE)
    assert caught.value.largest == "H200"
    assert caught.value.needed_gib > 141
    with pytest.raises(DoesNotFit):
        allocator.check_fits(huge, CATALOGUE[0])


def test_less_is_needed_to_finetune_than_to_train_and_much_less_to_infer() -> None:
    config = TrainConfig(recipe="diffusion_transformer", width=512, depth=12, heads=8, batch_size=64)
    train, finetune, inference = (estimate(config, mode=mode) for mode in ("train", "finetune", "inference"))
    assert train.peak_bytes - finetune.peak_bytes == train.average_bytes > 0
    assert inference.peak_bytes < finetune.peak_bytes / 2
    assert train.peak_bytes < train.needed_gib * 1024**3


def test_parts_save_activations_and_16_bits_save_more() -> None:
    whole = TrainConfig(recipe="diffusion_transformer", width=512, depth=12, heads=8, batch_size=256)
    parts = TrainConfig.from_wire({**whole.to_wire(), "grad_accumulation": 4})
    assert estimate(parts).activations_bytes == estimate(whole).activations_bytes // 4
    assert estimate(whole).activations_bytes < estimate(whole, is_16_bit=False).activations_bytes
