"""Tiny pipelines of every family: random weights, real classes, saved as the published ones are."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from cascade.contracts import ArmState, CameraImage, Observation

WORDS = ["<pad>", "</s>", "<unk>", "open", "close", "the", "door", "robot", "arm", "a", "fixed", "camera"]
TEXT = 32


def pytest_collection_modifyitems(items):
    if importlib.util.find_spec("transformers") is None:
        skip = pytest.mark.skip(reason='needs transformers: pip install "cascade-wam[diffusers]"')
        for item in items:
            if item.path.parent == Path(__file__).parent:
                item.add_marker(skip)


def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=64
    )


def text_encoder(kind="T5"):
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=len(WORDS), d_model=TEXT, d_kv=8, d_ff=32, num_layers=1, num_heads=2, pad_token_id=0, eos_token_id=1
    )
    return getattr(transformers, f"{kind}EncoderModel")(config).eval()


def wan_vae(z=16, **more):
    from diffusers import AutoencoderKLWan

    return AutoencoderKLWan(
        base_dim=3,
        z_dim=z,
        dim_mult=[1, 1, 1, 1],
        num_res_blocks=1,
        temperal_downsample=[False, True, True],
        **more,
    )


def wan_transformer(channels_in, channels_out, **more):
    from diffusers import WanTransformer3DModel

    return WanTransformer3DModel(
        patch_size=(1, 2, 2),
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=channels_in,
        out_channels=channels_out,
        text_dim=TEXT,
        freq_dim=16,
        ffn_dim=32,
        num_layers=2,
        cross_attn_norm=True,
        qk_norm="rms_norm_across_heads",
        rope_max_seq_len=32,
        **more,
    )


def flow_scheduler():
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(shift=3.0)


def wan21():
    from diffusers import WanImageToVideoPipeline
    from transformers import CLIPVisionConfig, CLIPVisionModel

    vision = CLIPVisionConfig(
        hidden_size=4,
        projection_dim=4,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        intermediate_size=16,
        patch_size=8,
    )
    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=wan_vae(),
        scheduler=flow_scheduler(),
        image_processor=clip_processor(),
        image_encoder=CLIPVisionModel(vision).eval(),
        transformer=wan_transformer(36, 16, image_dim=4, added_kv_proj_dim=24),
    )


def clip_processor():
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(crop_size=32, size={"shortest_edge": 32})


def wan22_a14b():
    from diffusers import WanImageToVideoPipeline

    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=wan_vae(),
        scheduler=flow_scheduler(),
        transformer=wan_transformer(36, 16),
        transformer_2=wan_transformer(36, 16),
        boundary_ratio=0.9,
    )


def wan22_ti2v():
    from diffusers import WanImageToVideoPipeline

    vae = wan_vae(
        48,
        in_channels=12,
        out_channels=12,
        is_residual=True,
        patch_size=2,
        scale_factor_spatial=16,
        latents_mean=[0.0] * 48,
        latents_std=[1.0] * 48,
    )
    return WanImageToVideoPipeline(
        tokenizer=tokenizer(),
        text_encoder=text_encoder("UMT5"),
        vae=vae,
        scheduler=flow_scheduler(),
        transformer=wan_transformer(48, 48),
        expand_timesteps=True,
    )


def ltx(name="LTXImageToVideoPipeline"):
    import diffusers

    transformer = diffusers.LTXVideoTransformer3DModel(
        in_channels=8,
        out_channels=8,
        patch_size=1,
        patch_size_t=1,
        num_attention_heads=4,
        attention_head_dim=8,
        cross_attention_dim=32,
        num_layers=1,
        caption_channels=TEXT,
    )
    vae = diffusers.AutoencoderKLLTXVideo(
        in_channels=3,
        out_channels=3,
        latent_channels=8,
        block_out_channels=(8, 8, 8, 8),
        decoder_block_out_channels=(8, 8, 8, 8),
        layers_per_block=(1, 1, 1, 1, 1),
        decoder_layers_per_block=(1, 1, 1, 1, 1),
        spatio_temporal_scaling=(True, True, False, False),
        decoder_spatio_temporal_scaling=(True, True, False, False),
        decoder_inject_noise=(False, False, False, False, False),
        upsample_residual=(False, False, False, False),
        upsample_factor=(1, 1, 1, 1),
        timestep_conditioning=False,
        patch_size=1,
        patch_size_t=1,
        encoder_causal=True,
        decoder_causal=False,
    )
    vae.use_framewise_encoding = vae.use_framewise_decoding = False
    return getattr(diffusers, name)(
        scheduler=flow_scheduler(), vae=vae, text_encoder=text_encoder(), tokenizer=tokenizer(), transformer=transformer
    )


def ltx_condition():
    return ltx("LTXConditionPipeline")


BUILDERS = {
    "wan21-i2v": wan21,
    "wan22-i2v-a14b": wan22_a14b,
    "wan22-ti2v": wan22_ti2v,
    "ltx-i2v": ltx,
    "ltx-condition": ltx_condition,
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """Function from a family's name to a folder that save_pretrained wrote."""
    import torch

    made: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            path = tmp_path_factory.mktemp("models") / name
            BUILDERS[name]().save_pretrained(path)
            made[name] = path
        return made[name]

    return folder


@pytest.fixture(scope="session")
def observation():
    rows, columns = np.mgrid[0:96, 0:128]
    rgb = np.stack([rows * 2, columns * 2 - 1, np.full_like(rows, 90)], axis=-1).clip(0, 255).astype(np.uint8)
    K = np.array([[100.0, 0, 64], [0, 100.0, 48], [0, 0, 1]])
    image = CameraImage(rgb=rgb, K=K, stamp_s=0.0, T_base_cam=np.eye(4))
    arm = ArmState(q=np.zeros(7), T_base_ee=np.eye(4), gripper_opening=1.0, stamp_s=0.0)
    return Observation(images={"corner": image}, arm=arm)
